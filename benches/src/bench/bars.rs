//! What the figures are held against.

use jumpgate_benches::figure::Figures;

/// The most that a figure may be, in its own unit.
const BARS: [(&str, f64); 13] = [
    ("steer_local_hot_ns", 35.0),
    ("steer_local_64k_ns", 60.0),
    ("forward_over_base_hot_ns", 40.0),
    ("fence_ns", 2.0),
    ("egress_fence_ns", 60.0),
    // A look-up more than the fence alone.
    ("egress_session_ns", 70.0),
    ("egress_bound_ns", 70.0),
    ("hold_64_ns", 120.0),
    ("hold_1400_ns", 250.0),
    ("grace_p99_us", 2_000.0),
    ("publish_1m_ms", 150.0),
    // 7,000 a second.
    ("etcd_batch_us", 142.8),
    // 85 % of what etcd does by itself.
    ("etcd_batch_over_raw", 1.176),
];

/// The bars that are missed, in words.
pub fn missed(figures: &Figures) -> Vec<String> {
    let median = |name: &str| figures.iter().find(|f| f.name == name).map(|f| f.median);
    // A million sessions may cost one read from memory more than a hot one, and a little.
    let million = median("steer_local_hot_ns")
        .zip(median("random_read_1m_ns"))
        .map(|(hot, read)| ("steer_local_1m_ns", hot + 1.15 * read));
    BARS.into_iter()
        .chain(million)
        .filter_map(|(name, bar)| {
            let Some(figure) = median(name) else { return Some(format!("{name}: not measured")) };
            (figure > bar).then(|| format!("{name} is {figure:.1}, at most {bar:.1}"))
        })
        .collect()
}
