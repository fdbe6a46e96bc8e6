//! Where it is shown: a terminal that is drawn over, or plain lines.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::frame::{self, Progress};
use super::text::{Paint, cut};

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(250);

/// How often a plain line is written.
const LINE: Duration = Duration::from_secs(2);

/// Standard output. A closed one is no reason to stop: the exit status still tells the outcome.
#[derive(Debug)]
pub struct Screen {
    paint: Paint,
    terminal: bool,
    /// Lines of the frame that is on the terminal and will be drawn over.
    drawn: usize,
    due: Instant,
}

impl Screen {
    /// The screen of this process.
    pub fn new() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal() && set("TERM").is_some_and(|term| term != "dumb");
        let paint = Paint(terminal && set("NO_COLOR").is_none());
        Self { paint, terminal, drawn: 0, due: Instant::now() }
    }

    /// Its colours.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Writes lines that stay; a frame that was drawn stays above them.
    pub fn say(&mut self, text: &str) {
        self.drawn = 0;
        write(&format!("{text}\n"));
    }

    /// Shows what is going on now.
    pub fn note(&mut self, text: &str) {
        if self.terminal {
            self.draw(&[text.to_owned()]);
        } else {
            self.say(text);
        }
    }

    /// When [`Screen::show`] is to be called first, in a part that starts now.
    pub fn first(&self) -> Instant {
        Instant::now() + if self.terminal { Duration::ZERO } else { LINE }
    }

    /// When [`Screen::show`] is to be called again.
    pub fn next(&self) -> Instant {
        self.due
    }

    /// Shows how far the demo is.
    pub fn show(&mut self, progress: &Progress<'_>) {
        let lines = frame::lines(progress, self.paint);
        let live = self.terminal && size().is_none_or(|(rows, _)| lines.len() < rows);
        if live {
            self.draw(&lines);
        } else {
            self.erase();
            self.say(&frame::line(progress));
        }
        self.due = Instant::now() + if live { REDRAW } else { LINE };
    }

    /// Takes away what would have been drawn over.
    pub fn erase(&mut self) {
        if self.drawn > 0 {
            write(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn draw(&mut self, lines: &[String]) {
        let width = size().map_or(80, |(_, columns)| columns);
        let mut text = "\x1b[?25l".to_owned();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in lines {
            text.push_str(&cut(line, width.saturating_sub(1)));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        write(&text);
        self.drawn = lines.len();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            // The cursor was hidden.
            write("\x1b[?25h");
        }
    }
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Rows and columns of the terminal.
fn size() -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize, which is what it is given.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}
