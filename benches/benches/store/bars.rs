//! What the figures are held against.

use jumpgate_benches::figure::Figures;

enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

const BARS: [(&str, Bar); 8] = [
    ("redb_10k_percent_of_raw", Bar::AtLeast(80.0)),
    ("redb_100k_percent_of_raw", Bar::AtLeast(80.0)),
    ("redb_1m_percent_of_raw", Bar::AtLeast(80.0)),
    ("redb_10k_per_s", Bar::AtLeast(45_000.0)),
    ("redb_1m_per_s", Bar::AtLeast(25_000.0)),
    ("restart_1m_clean_ms", Bar::AtMost(5_000.0)),
    ("restart_1m_killed_ms", Bar::AtMost(5_000.0)),
    // There is no index besides the cache of the file's pages.
    ("memory_1m_bytes_a_session", Bar::AtMost(250.0)),
];

/// The bars that are missed, in words.
pub(crate) fn missed(figures: &Figures) -> Vec<String> {
    let median = |name: &str| figures.iter().find(|f| f.name == name).map(|f| f.median);
    let miss = |(name, bar)| {
        let Some(figure) = median(name) else { return Some(format!("{name}: not measured")) };
        match bar {
            Bar::AtLeast(bar) => {
                (figure < bar).then(|| format!("{name} is {figure:.1}, at least {bar:.1}"))
            }
            Bar::AtMost(bar) => {
                (figure > bar).then(|| format!("{name} is {figure:.1}, at most {bar:.1}"))
            }
        }
    };
    BARS.into_iter().filter_map(miss).collect()
}
