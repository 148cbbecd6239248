//! MT19937 (Matsumoto and Nishimura 1998), the generator of torch on the CPU, with the seeding of 1998.

const N: usize = 624;
const M: usize = 397;

/// MT19937 state.
#[derive(Debug, Clone)]
pub(super) struct Mt19937 {
    state: Box<[u32; N]>,
    next: usize,
}

impl Mt19937 {
    /// Uses the low 32 bits of the seed, as torch does.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = Box::new([0u32; N]);
        state[0] = seed as u32;
        for j in 1..N {
            let x = state[j - 1];
            state[j] = 1_812_433_253u32.wrapping_mul(x ^ (x >> 30)).wrapping_add(j as u32);
        }
        Self { state, next: N }
    }

    pub(super) fn u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in [0, 1) from the low `bits` ≤ 24 bits of one word.
    pub(super) fn uniform_f32(&mut self, bits: u32) -> f32 {
        (self.u32() & ((1 << bits) - 1)) as f32 / (1u32 << bits) as f32
    }

    /// Uniform in [0, 1) with 53 bits. The first word drawn is the high word.
    pub(super) fn uniform_f64(&mut self) -> f64 {
        let (high, low) = (u64::from(self.u32()), u64::from(self.u32()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn twist(&mut self) {
        for k in 0..N {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
            let magic = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ magic;
        }
        self.next = 0;
    }
}
