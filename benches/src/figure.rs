//! Figures: what was measured, printed as it comes.

/// A measured figure: the median over the rounds, and how far they spread.
pub struct Figure {
    /// Its flat name; the unit is its ending.
    pub name: String,
    /// The median.
    pub median: f64,
    /// The lowest round.
    pub lowest: f64,
    /// The highest round.
    pub highest: f64,
}

impl Figure {
    /// A figure that was measured once.
    pub fn once(name: String, value: f64) -> Self {
        Self { name, median: value, lowest: value, highest: value }
    }

    /// The figure of one of `count` equal parts.
    pub fn divided_by(self, count: f64) -> Self {
        let Self { name, median, lowest, highest } = self;
        Self { name, median: median / count, lowest: lowest / count, highest: highest / count }
    }

    /// The figure of these rounds, of which there is at least one.
    pub fn of(name: &str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            median: rounds[rounds.len() / 2],
            lowest: rounds[0],
            highest: rounds[rounds.len() - 1],
        }
    }
}

/// What was measured so far, each figure printed as it comes.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure and prints it.
    pub fn push(&mut self, figure: Figure) {
        if self.0.is_empty() {
            println!("{:32} {:>9} {:>9} {:>9}", "figure", "median", "lowest", "highest");
        }
        let Figure { name, median, lowest, highest } = &figure;
        println!("{name:32} {median:>9.1} {lowest:>9.1} {highest:>9.1}");
        self.0.push(figure);
    }

    /// The figures, in the order in which they were measured.
    pub fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }
}
