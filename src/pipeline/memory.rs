//! Memory of a run: what is held at the same time, for `plan`, for the choice of tiles, and for `--memory-limit`.
//!
//! One budget serves the tiles of VAEs and upscalers and the choice of mapped weights: `--memory-limit`, which covers everything that
//! the process holds, else half of the memory of the machine or control group ([`memory_budget`]). A run is a sequence of phases;
//! its peak is the largest sum of a phase's terms. Weights that stay mapped are not counted: the system can drop them.

use crate::{
    error::{Error, Result},
    runtime::{available_memory, memory_budget, resident_memory},
};

/// Bytes that the process, FFmpeg and ONNX Runtime take before a network is loaded, rounded up. A constant, so that the same call
/// always uses the same tiles; `plan` measures the process instead.
pub(crate) const RESERVE: u64 = 96_000_000;

/// Resident bytes of ONNX Runtime 1.31 on the CPU after the test of the device, without a network.
const ENGINE: u64 = 23_000_000;

/// Bytes of a session besides weights and activations: the graph, kernels and stacks of threads. Measured on the networks of
/// `tests/goldens`.
pub(crate) const SESSION: u64 = 4_000_000;

/// Bytes of an RGB pixel in f32 planes.
pub(crate) const PLANES: u64 = 12;

/// Bytes of an RGB pixel in an 8-bit frame.
pub(crate) const BYTES: u64 = 3;

/// Pixels of (height, width).
pub(crate) fn pixels((height, width): (usize, usize)) -> u64 {
    (height as u64).saturating_mul(width as u64)
}

/// What is held at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    terms: Vec<(&'static str, u64)>,
}

impl Phase {
    /// The same and another term.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, bytes: u64) -> Self {
        self.terms.push((name, bytes));
        self
    }

    /// Bytes of all terms.
    pub(super) fn bytes(&self) -> u64 {
        self.terms.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// `decoded picture 37 MB, output 147 MB`; terms below 1 MB are left out.
    pub(super) fn text(&self) -> String {
        let shown = self.terms.iter().filter(|(_, bytes)| *bytes >= 1_000_000);
        shown.map(|(name, bytes)| format!("{name} {}", megabytes(*bytes))).collect::<Vec<_>>().join(", ")
    }
}

/// The phase with the most bytes.
pub(crate) fn peak(phases: impl IntoIterator<Item = Phase>) -> Phase {
    phases.into_iter().max_by_key(Phase::bytes).unwrap_or_default()
}

/// Resident bytes of a process before it loads a network: this process and, if any network runs, what ONNX Runtime adds.
pub(crate) fn baseline(networks: bool) -> u64 {
    resident_memory() + if networks { ENGINE } else { 0 }
}

/// Bytes that a network's tile may take beside `held` bytes. Without a limit, half of the budget is left to the stages that run at the
/// same time.
pub(crate) fn tile_memory(limit: Option<u64>, held: u64) -> u64 {
    match limit {
        Some(limit) => limit.saturating_sub(RESERVE).saturating_sub(SESSION).saturating_sub(held),
        None => memory_budget(None) / 2,
    }
}

/// Checks that the limit leaves anything at all.
///
/// # Errors
/// A limit below what the process needs for itself.
pub(crate) fn check_limit(limit: Option<u64>) -> Result<()> {
    match limit {
        Some(limit) if limit < RESERVE => Err(Error::usage(format!(
            "--memory-limit {}: the program and ONNX Runtime alone take up to {}; give at least 128MB",
            exact(limit),
            megabytes(RESERVE)
        ))),
        _ => Ok(()),
    }
}

/// Checks that the smallest form of a job fits into the limit, or without one into what the process holds and can still get.
///
/// # Errors
/// The limit, the need and its terms.
pub(crate) fn check(need: &Phase, limit: Option<u64>) -> Result<()> {
    let (most, needed, limit, need, remedy) = match limit {
        Some(limit) => {
            let program = Phase::default().with("program", RESERVE);
            let need = need.terms.iter().fold(program, |phase, (name, bytes)| phase.with(name, *bytes));
            let text = format!("--memory-limit {}", exact(limit));
            (limit, need.bytes(), text, need, "raise the limit or choose a smaller size")
        }
        None => {
            // The need covers all jobs; what the process holds beyond the program belongs to those that run.
            let held = resident_memory().saturating_sub(RESERVE);
            let most = available_memory().saturating_add(held).min(memory_budget(None).saturating_mul(2));
            let text = format!("{} of available memory", megabytes(most));
            (most, need.bytes(), text, need.clone(), "choose a smaller size")
        }
    };
    if needed <= most {
        return Ok(());
    }
    let (needed, terms) = (megabytes(needed), need.text());
    Err(Error::failed(format!("{limit}: at least {needed} are needed ({terms}); {remedy}")))
}

fn exact(bytes: u64) -> String {
    if bytes >= 1_000_000 { megabytes(bytes) } else { format!("{bytes} bytes") }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_largest_phase() {
        let decode = Phase::default().with("picture", 3_000_000).with("file", 500);
        let upscale = Phase::default().with("picture", 3_000_000).with("tile", 2_000_001);
        assert_eq!(peak([decode, upscale.clone()]), upscale);
        assert_eq!((upscale.bytes(), upscale.text().as_str()), (5_000_001, "picture 3 MB, tile 3 MB"));
        assert_eq!(peak([]).bytes(), 0);
        assert_eq!(Phase::default().with("a", u64::MAX).with("b", 1).bytes(), u64::MAX);
    }

    #[test]
    fn a_limit_that_cannot_hold_is_refused() {
        let need = Phase::default().with("output", 404_000_000);
        let rows: [(Option<u64>, &str); 4] = [
            (None, ""),
            (Some(500_000_000), ""),
            (Some(499_000_000), "--memory-limit 499 MB: at least 500 MB are needed (program 96 MB, output 404 MB)"),
            (Some(1), "--memory-limit 1 bytes: at least 500 MB are needed"),
        ];
        for (limit, wanted) in rows {
            let found = check(&need, limit).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(found.starts_with(wanted) && found.is_empty() == wanted.is_empty(), "{limit:?}: {found}");
        }
        for (limit, wanted) in [(None, true), (Some(1), false), (Some(RESERVE - 1), false), (Some(RESERVE), true)] {
            assert_eq!(check_limit(limit).is_ok(), wanted, "{limit:?}");
        }
        assert_eq!(tile_memory(Some(RESERVE + SESSION + 7), 2), 5);
        assert_eq!(tile_memory(Some(1), 2), 0);
    }
}
