//! Deterministic mutations of seeds, for tests.

/// Numbers at the edges of types, and what JSON and TOML have instead of numbers.
const EDGES: &[&str] = &[
    "0", "-1", "1", "2", "255", "65536", "2147483647", "4294967295", "9223372036854775807", "18446744073709551615", "1e308", "-1e-9",
    "0.5", "null", "true", "[]", "{}", "\"\"",
];

/// An endless sequence of mutated files, the same on every run.
#[derive(Debug, Clone)]
pub struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutations of `seeds`, of which there is at least one.
    pub fn new(seeds: &'a [Vec<u8>], state: u64) -> Self {
        Self { seeds, state }
    }

    /// splitmix64: a number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n.max(1) as u64) as usize
    }

    /// Replaces a number in text by one of [`EDGES`].
    fn replace_number(&mut self, bytes: &mut Vec<u8>, near: usize) {
        let is_part = |b: &u8| b.is_ascii_digit() || b".-".contains(b);
        let Some(start) = bytes[near..].iter().position(is_part).map(|at| near + at) else { return };
        let end = bytes[start..].iter().position(|b| !is_part(b)).map_or(bytes.len(), |at| start + at);
        let edge = EDGES[self.below(EDGES.len())];
        bytes.splice(start..end, edge.bytes());
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.seeds[self.below(self.seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff, b'(', b'.', b'R', b'9'][self.below(8)],
                2 => bytes.truncate(at),
                3 => {
                    let other = &self.seeds[self.below(self.seeds.len())].clone();
                    let (a, b) = (self.below(other.len()), self.below(other.len()));
                    bytes.splice(at..at, other[a.min(b)..a.max(b)].iter().copied());
                }
                4 if !bytes.is_empty() => self.replace_number(&mut bytes, at),
                _ => {
                    let end = (at + self.below(64)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        Some(bytes)
    }
}
