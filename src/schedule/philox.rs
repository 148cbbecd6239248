//! `torch.randn` on CUDA: Philox4x32-10 in the layout of ATen's `distribution_nullary_kernel`.
//!
//! The order of the numbers depends on the number of threads that the device runs at once, so large tensors differ between GPU
//! models. The device uses fast sine and cosine; the results here equal them to about 1e-6.

use serde::Serialize;

use super::round_bf16;

const BLOCK: usize = 256;

/// The properties of a GPU that its random numbers depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Multiprocessors.
    pub sms: usize,
    /// Threads per multiprocessor, at least 256.
    pub threads_per_sm: usize,
}

impl Gpu {
    /// H100 (SXM) and H200.
    pub const HOPPER: Self = Self { sms: 132, threads_per_sm: 2048 };

    /// GPUs by name, from NVIDIA's data sheets and the CUDA programming guide's table of compute capabilities.
    pub const KNOWN: [(&'static str, Self); 9] = [
        ("a100", Self { sms: 108, threads_per_sm: 2048 }),
        ("a6000", Self { sms: 84, threads_per_sm: 1536 }),
        ("b200", Self { sms: 148, threads_per_sm: 2048 }),
        ("h100", Self::HOPPER),
        ("h200", Self::HOPPER),
        ("l40s", Self { sms: 142, threads_per_sm: 1536 }),
        ("rtx3090", Self { sms: 82, threads_per_sm: 1536 }),
        ("rtx4090", Self { sms: 128, threads_per_sm: 1536 }),
        ("rtx5090", Self { sms: 170, threads_per_sm: 1536 }),
    ];
}

/// A torch CUDA generator: `torch.Generator("cuda").manual_seed(seed)`.
#[derive(Debug, Clone)]
pub struct TorchCuda {
    seed: u64,
    /// A multiple of 4.
    offset: u64,
    blocks: usize,
}

impl TorchCuda {
    /// The generator after `manual_seed(seed)` on `gpu`.
    pub fn seeded(seed: u64, gpu: Gpu) -> Self {
        Self { seed, offset: 0, blocks: (gpu.sms * (gpu.threads_per_sm / BLOCK)).max(1) }
    }

    /// `torch.randn(n, dtype=float32, device="cuda")`. Advances the offset.
    pub fn randn_f32(&mut self, n: usize) -> Vec<f32> {
        if n == 0 {
            return Vec::new();
        }
        let threads = BLOCK * n.div_ceil(BLOCK).min(self.blocks);
        let loops = (n - 1) / (threads * 4) + 1;
        let mut out = vec![0.0; n];
        for k in 0..loops {
            for thread in 0..threads {
                let normals = self.normals(self.offset / 4 + k as u64, thread as u64);
                for (m, z) in normals.into_iter().enumerate() {
                    if let Some(slot) = out.get_mut((k * 4 + m) * threads + thread) {
                        *slot = z;
                    }
                }
            }
        }
        self.offset += 4 * loops as u64;
        out
    }

    /// `torch.randn(n, dtype=bfloat16, device="cuda")`: the f32 numbers, rounded.
    pub fn randn_bf16(&mut self, n: usize) -> Vec<f32> {
        self.randn_f32(n).into_iter().map(round_bf16).collect()
    }

    fn normals(&self, count: u64, thread: u64) -> [f32; 4] {
        let w = philox([count as u32, (count >> 32) as u32, thread as u32, (thread >> 32) as u32], self.seed);
        let ((a, b), (c, d)) = (box_muller(w[0], w[1]), box_muller(w[2], w[3]));
        [a, b, c, d]
    }
}

/// Ten rounds of Philox4x32 (Salmon et al. 2011).
fn philox(mut c: [u32; 4], seed: u64) -> [u32; 4] {
    let (mut k0, mut k1) = (seed as u32, (seed >> 32) as u32);
    for _ in 0..10 {
        let (p0, p1) = (u64::from(c[0]) * 0xd251_1f53, u64::from(c[2]) * 0xcd9e_8d57);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(0x9e37_79b9);
        k1 = k1.wrapping_add(0xbb67_ae85);
    }
    c
}

/// The Box-Muller transform of cuRAND: sine first, u in (0, 1].
#[allow(clippy::excessive_precision)]
fn box_muller(x: u32, y: u32) -> (f32, f32) {
    const INV: f32 = 2.3283064e-10;
    const INV_2PI: f32 = INV * 6.2831855;
    let u = (x as f32).mul_add(INV, INV / 2.0);
    let v = (y as f32).mul_add(INV_2PI, INV_2PI / 2.0);
    let radius = (-2.0 * u.ln()).sqrt();
    (v.sin() * radius, v.cos() * radius)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in torch: a draw advances the offset by 4 for each round of all threads.
    #[test]
    fn draws_advance_the_offset() {
        for (gpu, n, offset) in [(Gpu::HOPPER, 8, 4), (Gpu { sms: 1, threads_per_sm: 256 }, 2600, 12)] {
            let mut generator = TorchCuda::seeded(9, gpu);
            generator.randn_f32(n);
            assert_eq!(generator.offset, offset, "{n} values");
        }
    }
}
