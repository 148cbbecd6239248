//! The log of a run: what was copied over PCIe, which kernels ran, what must not have happened.

use std::{collections::BTreeMap, fs, path::Path};

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attention {
    /// cuDNN's.
    CuDnn,
    /// FlashAttention-2.
    Flash,
    /// The memory-efficient kernel of cutlass.
    Efficient,
    /// A matrix of all products: memory grows with the square of the length.
    Unfused,
}

impl Attention {
    fn of(kernel: &str) -> Option<Self> {
        let known = [
            // The second kernel of a split computation is not counted.
            ("flash_fwd_splitkv_combine", None),
            ("flash_fwd", Some(Self::Flash)),
            ("attention_kernel_batched", Some(Self::Efficient)),
            ("fmha_cutlass", Some(Self::Efficient)),
            ("oftmax", Some(Self::Unfused)),
            ("Unfused", Some(Self::Unfused)),
        ];
        known.iter().find(|(part, _)| kernel.contains(part)).and_then(|(_, kind)| *kind)
    }
}

/// The events of one run, counted. The difference of two runs is what the longer one did more.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Kernels by mangled name.
    kernels: BTreeMap<String, i64>,
    /// Executions of cuDNN: convolutions, and its attention.
    cudnn: i64,
    to_device: i64,
    from_device: i64,
    /// Calls that CUDA does not allow while a stream is captured.
    pub(crate) illegal: Vec<String>,
    /// Captured graphs: the number of kernels in each.
    pub(crate) captures: Vec<u64>,
    /// Launches of captured graphs.
    pub(crate) replays: usize,
    /// Allocations that did not fit.
    pub(crate) refused: usize,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Self {
        let mut log = Self::default();
        // A run that never loads the CUDA libraries writes no log.
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["launch", name, ..] => *log.kernels.entry(name.into()).or_default() += 1,
                ["copy", "H2D", bytes, ..] => log.to_device += bytes.parse::<i64>().unwrap(),
                ["copy", "D2H", bytes, ..] => log.from_device += bytes.parse::<i64>().unwrap(),
                ["cudnn", "execute"] => log.cudnn += 1,
                ["illegal", name] => log.illegal.push(name.into()),
                ["capture", "end", kernels] => log.captures.push(kernels.parse().unwrap()),
                ["graph", "launch"] => log.replays += 1,
                ["oom", ..] => log.refused += 1,
                _ => {}
            }
        }
        log
    }

    /// Bytes copied to the device and from it in this run, less those of a shorter one.
    pub(crate) fn copied_more_than(&self, shorter: &Self) -> [i64; 2] {
        [self.to_device - shorter.to_device, self.from_device - shorter.from_device]
    }

    /// The attention kernels of this run, less those of a shorter one. The difference must contain no convolution: cuDNN's attention and
    /// its convolutions look the same.
    pub(crate) fn attention_more_than(&self, shorter: &Self) -> BTreeMap<Attention, i64> {
        let mut found = BTreeMap::from([(Attention::CuDnn, self.cudnn - shorter.cudnn)]);
        for (log, sign) in [(self, 1), (shorter, -1)] {
            for (name, count) in &log.kernels {
                if let Some(kind) = Attention::of(name) {
                    *found.entry(kind).or_default() += sign * count;
                }
            }
        }
        found.retain(|_, count| *count != 0);
        found
    }

    /// Kernels of this run.
    pub(crate) fn launches(&self) -> i64 {
        self.kernels.values().sum()
    }
}
