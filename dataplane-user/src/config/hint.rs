//! "Did you mean …": the word that was probably meant.

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('-', "_");
            let distance = if plain.len() >= 3 && word.contains(&plain) {
                // "lease_time" for "lease": as near as one slip.
                strsim::damerau_levenshtein(&word, &plain).min(1)
            } else {
                strsim::damerau_levenshtein(&word, &plain)
            };
            (distance, candidate)
        })
        // A third of the letters may differ, and one always, but not all of a short word.
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len() / 3).max(1) && *distance < candidate.len().max(word.len())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `"; did you mean …?"`, or nothing.
pub(super) fn did_you_mean<'a>(
    word: &str,
    quote: char,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    nearest(word, candidates)
        .map(|candidate| format!("; did you mean {quote}{candidate}{quote}?"))
        .unwrap_or_default()
}

/// `a, b or c`, each in quotes.
pub(super) fn alternatives(words: &[&str], quote: char) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["name", "index", "address", "weight", "interface"];
        for (word, meant) in [
            ("nmae", Some("name")),
            ("Address", Some("address")),
            ("adress", Some("address")),
            ("wieght", Some("weight")),
            ("interfaces", Some("interface")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest("control-port", ["control_port"]), Some("control_port"));
        assert_eq!(nearest("lease_time", ["lease", "renew"]), Some("lease"));
        assert_eq!(nearest("b", ["a"]), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(alternatives(&["a"], '"'), "\"a\"");
        assert_eq!(alternatives(&["a", "b", "c"], '`'), "`a`, `b` or `c`");
    }
}
