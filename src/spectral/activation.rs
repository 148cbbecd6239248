//! Activation times: the σ at which a frequency of a latent becomes relevant (arXiv 2605.18736 eq. 9).

use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};

/// The radial power spectrum of a VAE's latents, P(ω) = A·|ω|^(−β), with ω in cycles per side of the latent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spectrum {
    /// A.
    pub a: f64,
    /// β.
    pub beta: f64,
}

impl Spectrum {
    /// FLUX.1's VAE, fitted by the paper's authors on 105,000 pictures. Z-Image has the same VAE. The published implementation also
    /// uses these values for FLUX.2 and Qwen-Image, for which no fit exists.
    pub const FLUX: Self = Self { a: 203.615097, beta: 1.915461 };
    /// Wan 2.1's VAE: the spatial spectrum, fitted by the paper's authors on 9050 videos.
    pub const WAN: Self = Self { a: 219.484718, beta: 2.422687 };

    /// P(ω); infinite at ω = 0.
    pub fn power(&self, omega: f64) -> f64 {
        self.a * omega.abs().powf(-self.beta)
    }

    /// The activation time of frequency ω, 1/(1 + √(δ/(P·(1+P−δ)))), in 0..=1. It falls with ω. `delta`: the threshold δ in
    /// (0, 1).
    pub fn activation_time(&self, omega: f64, delta: f64) -> f64 {
        let p = self.power(omega);
        1.0 / (1.0 + (delta / (p * (1.0 + p - delta))).sqrt())
    }
}

impl FromStr for Spectrum {
    type Err = Error;

    /// `A,BETA`, both positive.
    fn from_str(text: &str) -> Result<Self> {
        let values: Vec<f64> = text.split(',').filter_map(|v| v.trim().parse().ok()).collect();
        match values[..] {
            [a, beta] if text.split(',').count() == 2 && [a, beta].iter().all(|v| v.is_finite() && *v > 0.0) => {
                Ok(Self { a, beta })
            }
            _ => Err(Error::usage(format!(
                "progressive_spectrum must be A,BETA, two positive numbers such as 203.6,1.915, got '{text}'"
            ))),
        }
    }
}
