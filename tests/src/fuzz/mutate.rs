//! New inputs out of old ones: the same sequence for the same seed.

/// Values at which lengths and offsets turn.
const TURNING: [u16; 18] =
    [0, 1, 4, 7, 8, 15, 16, 19, 20, 21, 127, 128, 255, 256, 0x3fff, 0x7fff, 0x8000, 0xffff];

/// Bytes with a meaning: versions, protocols, types.
const MEANING: [u8; 22] = [
    0, 1, 2, 3, 4, 6, 17, 22, 25, 26, 43, 44, 51, 58, 60, 0x30, 0x40, 0x45, 0x60, 0x81, 0xc0, 0xff,
];

/// The longest input that is made, in bytes: what an XDP program can be run on, in one page with its
/// head room.
pub const LONGEST: usize = 3_000;

/// A source of inputs.
pub struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
    input: Vec<u8>,
}

impl<'a> Mutator<'a> {
    /// Inputs made of these, of which there must be one at least.
    pub fn new(seeds: &'a [Vec<u8>], seed: u64) -> Self {
        assert!(!seeds.is_empty(), "inputs are made of others");
        Self { seeds, state: seed, input: Vec::new() }
    }

    /// The next one.
    pub fn draw(&mut self) -> &[u8] {
        let first = self.pick(self.seeds.len());
        self.input.clear();
        self.input.extend_from_slice(&self.seeds[first]);
        // Most faults lie near what is right.
        let changes = 1 + (self.random().trailing_zeros() as usize).min(12);
        for _ in 0..changes {
            self.change();
        }
        self.input.truncate(LONGEST);
        &self.input
    }

    /// A number below `end`, or 0.
    pub fn pick(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.random() % end as u64) as usize }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A place in the input; headers more often than what is behind them.
    fn place(&mut self) -> usize {
        let length = self.input.len();
        let end = if self.random() & 3 == 0 { length } else { length.min(140) };
        self.pick(end)
    }

    fn change(&mut self) {
        let at = self.place();
        let (length, random) = (self.input.len(), self.random());
        match self.pick(10) {
            _ if length == 0 => self.input.push(random as u8),
            0 => self.input[at] ^= 1 << (random & 7),
            1 => self.input[at] = random as u8,
            2 => self.input[at] = MEANING[self.pick(MEANING.len())],
            3 => {
                self.input[at] = self.input[at].wrapping_add(if random & 1 == 0 { 1 } else { 255 })
            }
            4 => {
                let value = TURNING[self.pick(TURNING.len())].to_be_bytes();
                let end = length.min(at + 2);
                self.input[at..end].copy_from_slice(&value[..end - at]);
            }
            5 => self.input.truncate(at),
            6 => {
                let end = length.min(at + 1 + self.pick(16));
                self.input.drain(at..end);
            }
            7 => {
                let end = length.min(at + 1 + self.pick(16));
                let copy = self.input[at..end].to_vec();
                let to = self.place();
                self.input.splice(to..to, copy);
            }
            8 => {
                let more = self.pick(64);
                self.input.extend((0..more).map(|byte| byte as u8 ^ random as u8));
            }
            _ => {
                // The rest of another input.
                let other = &self.seeds[self.pick(self.seeds.len())];
                let from = at.min(other.len());
                self.input.truncate(at);
                self.input.extend_from_slice(&other[from..]);
            }
        }
    }
}
