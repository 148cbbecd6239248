//! Noise flags.

use clap::{Args, ValueEnum};

use super::value::{self, Choice};
use crate::{
    error::{Error, Result},
    schedule::{BfStream, Gpu, NoiseSource},
};

/// Noise flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct NoiseArgs {
    /// torch random generator to reproduce
    #[arg(long, value_enum, default_value = "cpu", value_name = "DEVICE")]
    pub generator_device: GeneratorDevice,

    /// torch version whose bf16 noise on the CPU is reproduced [default: current]
    #[arg(long, value_name = "VERSION", value_parser = TORCH)]
    pub generator_torch: Option<BfStream>,

    /// GPU whose CUDA noise is reproduced: a name, or multiprocessors x threads per multiprocessor [default: h100]
    #[arg(long, value_name = "NAME|SMSxTHREADS", value_parser = gpu)]
    pub generator_gpu: Option<Gpu>,
}

const TORCH: Choice<BfStream> = Choice::new(&[
    ("current", "Versions since early 2026 (pytorch issue 166853)", BfStream::Current),
    ("old", "Earlier versions", BfStream::Old),
]);

/// `--generator-device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GeneratorDevice {
    /// torch's CPU generator (mt19937).
    Cpu,
    /// torch's CUDA generator (Philox).
    Cuda,
}

impl NoiseArgs {
    /// The random stream. Errors: a flag of the other device's stream.
    pub(crate) fn resolve(&self) -> Result<NoiseSource> {
        match (self.generator_device, self.generator_torch, self.generator_gpu) {
            (GeneratorDevice::Cpu, stream, None) => Ok(NoiseSource::Cpu(stream.unwrap_or_default())),
            (GeneratorDevice::Cuda, None, gpu) => Ok(NoiseSource::Cuda(gpu.unwrap_or(Gpu::HOPPER))),
            (GeneratorDevice::Cpu, _, Some(_)) => Err(Error::usage(
                "--generator-gpu requires --generator-device cuda; the CPU's stream does not depend on the GPU",
            )),
            (GeneratorDevice::Cuda, Some(_), _) => Err(Error::usage(
                "--generator-torch requires --generator-device cpu; the CUDA stream is the same in all versions",
            )),
        }
    }
}

fn gpu(typed: &str) -> Result<Gpu, String> {
    if let Some((_, gpu)) = Gpu::KNOWN.iter().find(|(name, _)| typed.eq_ignore_ascii_case(name)) {
        return Ok(*gpu);
    }
    let number = |n: &str| n.parse::<usize>().ok().filter(|n| (1..=65_536).contains(n));
    let pair = typed.split_once(['x', '×']).and_then(|(a, b)| Some((number(a)?, number(b)?)));
    match pair {
        // torch draws Philox numbers in blocks of 256 threads.
        Some((sms, threads_per_sm)) if threads_per_sm >= 256 => Ok(Gpu { sms, threads_per_sm }),
        _ => Err(format!(
            "generator_gpu must be one of {}, or multiprocessors x threads per multiprocessor such as 132x2048, got {}",
            Gpu::KNOWN.map(|(name, _)| name).join(", "),
            value::shown(typed)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let rows = [
            ("h100", Some((132, 2048))),
            ("RTX4090", Some((128, 1536))),
            ("108x2048", Some((108, 2048))),
            ("132", None),
            ("0x2048", None),
            ("132x255", None),
            ("gtx", None),
        ];
        let got = |t: &str| gpu(t).ok().map(|g| (g.sms, g.threads_per_sm));
        let bad: Vec<_> = rows.iter().filter(|(t, want)| got(t) != *want).map(|(t, _)| (t, gpu(t))).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
