//! Numbers, bars and colours.

/// A number with its thousands apart: `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar that is `share` (0 to 1) full.
pub fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "=".repeat(full), "-".repeat(width - full))
}

/// How a piece of text is shown where there are colours.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A title.
    Title,
    /// Of less interest.
    Faint,
    /// As it should be.
    Good,
    /// As it should not be.
    Bad,
    /// What moves.
    Bar,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// The text in a style.
    pub fn paint(self, style: Style, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if !self.0 {
            return text.to_owned();
        }
        let code = match style {
            Style::Title => "1",
            Style::Faint => "2",
            Style::Good => "32;1",
            Style::Bad => "31;1",
            Style::Bar => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A number that should be zero.
    pub fn zero_is_good(self, number: u64, text: impl AsRef<str>) -> String {
        self.paint(if number == 0 { Style::Good } else { Style::Bad }, text)
    }
}

/// The first `width` characters of a line, not counting what sets colours.
pub fn cut(line: &str, width: usize) -> String {
    let mut text = String::new();
    let mut seen = 0;
    let mut escape = false;
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        } else if !escape {
            seen += 1;
            if seen > width {
                // Colours that follow still have to be ended.
                continue;
            }
        }
        text.push(c);
        if escape && c.is_ascii_alphabetic() {
            escape = false;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_bar_keeps_its_width() {
        assert_eq!([0.0, 0.5, 2.0].map(|share| bar(share, 4)), ["----", "==--", "===="]);
    }

    #[test]
    fn a_line_is_cut_but_its_colours_end() {
        assert_eq!(cut("\x1b[1mabcdef\x1b[0m", 3), "\x1b[1mabc\x1b[0m");
        assert_eq!(cut("abc", 3), "abc");
    }

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Paint(false).paint(Style::Bad, "x"), "x");
        assert_eq!(Paint(true).zero_is_good(0, "x"), "\x1b[32;1mx\x1b[0m");
    }
}
