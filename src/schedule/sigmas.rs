//! Flow-matching noise schedules, bit for bit as diffusers computes them.
//!
//! Sources: diffusers 0.42.1 `scheduling_flow_match_euler_discrete.py`, `scheduling_unipc_multistep.py`,
//! `pipeline_flux2.py`; `FlowUniPCMultistepScheduler` of the Wan repository, in SGLang's copy.

use std::path::Path;

use serde::Deserialize;

use super::solver::{Euler, Solver, UniPc};
use crate::{
    error::{At, Error, Result},
    files::read_text,
    tensor::DType,
};

/// The scheduler class of diffusers, as `scheduler_config.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `FlowMatchEulerDiscreteScheduler`: FLUX.1, FLUX.2, Z-Image, Qwen-Image.
    Euler,
    /// `UniPCMultistepScheduler` with flow sigmas: Wan.
    UniPc,
}

/// How σ is spread over the steps, before the shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// numpy's linspace from 1 to 1/n, rounded to f32: the FLUX and Qwen-Image pipelines.
    Steps,
    /// The same points from torch's f32 linspace, with its rounding: the Z-Image pipeline.
    StepsTorch,
    /// linspace from 1 to 1/1000 in n + 1 points without the last, in f64, with σ₀ at most 1 − 1e-6: UniPC in diffusers.
    Train,
    /// linspace from the shifted σmax to 0, in f64, then shifted a second time: the Wan repository's UniPC, which SGLang runs.
    WanTwice,
}

/// The formula of the dynamic shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeShift {
    /// σ' = e^mu / (e^mu + (1/σ − 1)).
    Exponential,
    /// σ' = mu / (mu + (1/σ − 1)).
    Linear,
}

/// A flow-matching schedule, from a `scheduler_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatch {
    /// The scheduler class, which determines the solver.
    pub class: Class,
    /// Static shift s: σ' = s·σ/(1+(s−1)·σ). Unused where `dynamic`. (`shift`, or UniPC's `flow_shift`.)
    pub shift: f64,
    /// Whether the shift depends on the number of image tokens, through mu.
    pub dynamic: bool,
    /// The formula of the dynamic shift.
    pub time_shift: TimeShift,
    /// mu at the two sequence lengths of `seq`.
    pub mu: [f64; 2],
    /// Two sequence lengths in image tokens; [`Self::linear_mu`] is the line through them.
    pub seq: [f64; 2],
    /// The value that the last σ before 0 is stretched to.
    pub shift_terminal: Option<f64>,
    /// Number of timesteps in training: t = σ · this.
    pub train_timesteps: f64,
    /// How σ is spread before the shift. From a config: `Steps` or `Train`, as in diffusers' pipelines.
    pub spacing: Spacing,
}

const KNOWN: &str = "FlowMatchEulerDiscreteScheduler and UniPCMultistepScheduler";

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    shift: Option<f64>,
    flow_shift: Option<f64>,
    use_dynamic_shifting: Option<bool>,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<f64>,
    max_image_seq_len: Option<f64>,
    shift_terminal: Option<f64>,
    time_shift_type: Option<String>,
    num_train_timesteps: Option<f64>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Options that change the numbers and are unsupported: name, diffusers' default, the only accepted value.
const FIXED_EULER: &[(&str, &str, &str)] = &[
    ("use_karras_sigmas", "false", "false"),
    ("use_exponential_sigmas", "false", "false"),
    ("use_beta_sigmas", "false", "false"),
    ("invert_sigmas", "false", "false"),
    ("stochastic_sampling", "false", "false"),
];
const FIXED_UNIPC: &[(&str, &str, &str)] = &[
    ("use_flow_sigmas", "false", "true"),
    ("prediction_type", "\"epsilon\"", "\"flow_prediction\""),
    ("solver_order", "2", "2"),
    ("solver_type", "\"bh2\"", "\"bh2\""),
    ("predict_x0", "true", "true"),
    ("lower_order_final", "true", "true"),
    ("final_sigmas_type", "\"zero\"", "\"zero\""),
    ("thresholding", "false", "false"),
    ("disable_corrector", "[]", "[]"),
    ("solver_p", "null", "null"),
    ("use_karras_sigmas", "false", "false"),
    ("use_exponential_sigmas", "false", "false"),
    ("use_beta_sigmas", "false", "false"),
];

impl FlowMatch {
    /// Reads a `scheduler_config.json` from disk. Errors name the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path).map_err(|e| Error::io("reading", path, &e))?;
        Self::from_json(&text).at(path.display())
    }

    /// Parses a `scheduler_config.json`.
    ///
    /// # Errors
    /// Invalid JSON, and an unsupported class or option.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Config =
            serde_json::from_str(text).map_err(|e| Error::failed(format!("not a scheduler config: {e}")))?;
        let class = match config.class.as_deref() {
            Some("FlowMatchEulerDiscreteScheduler") => Class::Euler,
            Some("UniPCMultistepScheduler") => Class::UniPc,
            Some(other) => {
                return Err(Error::failed(format!("unsupported scheduler class {other}; supported: {KNOWN}")));
            }
            None => return Err(Error::failed(format!("_class_name is missing; supported: {KNOWN}"))),
        };
        config.check(class)?;
        let time_shift = match config.time_shift_type.as_deref() {
            None | Some("exponential") => TimeShift::Exponential,
            Some("linear") if class == Class::Euler => TimeShift::Linear,
            Some(other) => {
                return Err(Error::failed(format!("unsupported time_shift_type {other}; supported: exponential")));
            }
        };
        let schedule = Self {
            class,
            shift: if class == Class::Euler { config.shift } else { config.flow_shift }.unwrap_or(1.0),
            dynamic: config.use_dynamic_shifting.unwrap_or(false),
            time_shift,
            mu: [config.base_shift.unwrap_or(0.5), config.max_shift.unwrap_or(1.15)],
            seq: [config.base_image_seq_len.unwrap_or(256.0), config.max_image_seq_len.unwrap_or(4096.0)],
            shift_terminal: config.shift_terminal.filter(|&t| t != 0.0),
            train_timesteps: config.num_train_timesteps.unwrap_or(1000.0),
            spacing: if class == Class::Euler { Spacing::Steps } else { Spacing::Train },
        };
        schedule.validate()?;
        Ok(schedule)
    }

    /// The same schedule with another static shift (`--flow-shift`). Errors if it is not a positive number.
    pub fn with_shift(mut self, shift: f64) -> Result<Self> {
        self.shift = shift;
        self.validate()?;
        Ok(self)
    }

    /// The solver of the class. `latents`: the element type of Euler's latents between steps, as [`Euler::latents`]. UniPC always
    /// uses f32.
    pub fn solver(&self, latents: DType) -> Box<dyn Solver + Send> {
        match self.class {
            Class::Euler => Box::new(Euler { latents }),
            Class::UniPc => Box::new(UniPc::default()),
        }
    }

    /// mu for `seq` image tokens: the line through the config's two points, not clamped.
    pub fn linear_mu(&self, seq: usize) -> f64 {
        let slope = (self.mu[1] - self.mu[0]) / (self.seq[1] - self.seq[0]);
        seq as f64 * slope + (self.mu[0] - slope * self.seq[0])
    }

    /// σ of `steps` steps: `steps` + 1 values that fall from about 1 to exactly 0. `mu` is required where `dynamic`, else unused.
    ///
    /// # Errors
    /// 0 steps; a missing mu.
    pub fn sigmas(&self, steps: usize, mu: Option<f64>) -> Result<Vec<f32>> {
        let mut sigmas: Vec<f32> = self.curve(steps, mu)?.into_iter().map(|s| s as f32).collect();
        sigmas.push(0.0);
        Ok(sigmas)
    }

    /// The timestep of any σ, such as one after a rewind, as in diffusers: 1000·σ, truncated to an integer for UniPC.
    pub fn timestep_at(&self, sigma: f32) -> f32 {
        match self.class {
            Class::Euler => sigma * self.train_timesteps as f32,
            // `sigma` is rounded to f32, so a value just below an integer may have been that integer. Steps fall on integers only
            // without a shift. There the rounding of f64 decides in the reference, and its t may be one less than here.
            Class::UniPc => {
                (f64::from(sigma) * self.train_timesteps * (1.0 + 0.5 * f64::from(f32::EPSILON))).trunc() as f32
            }
        }
    }

    fn validate(&self) -> Result<()> {
        let wrong = |name: &str, got: f64, want: &str| Err(Error::failed(format!("{name} must be {want}, got {got}")));
        if !(self.shift > 0.0 && self.shift.is_finite()) {
            return wrong("the scheduler's shift", self.shift, "a positive number");
        }
        if !(self.train_timesteps >= 1.0 && self.train_timesteps.is_finite()) {
            return wrong("num_train_timesteps", self.train_timesteps, "at least 1");
        }
        if self.seq[0] == self.seq[1] {
            return wrong("max_image_seq_len", self.seq[1], "other than base_image_seq_len");
        }
        match self.shift_terminal {
            Some(t) if !(t > 0.0 && t < 1.0) => wrong("shift_terminal", t, "in (0, 1)"),
            _ => Ok(()),
        }
    }

    /// σ without the final 0, in the precision of the reference.
    fn curve(&self, steps: usize, mu: Option<f64>) -> Result<Vec<f64>> {
        if steps == 0 {
            return Err(Error::usage("num_inference_steps must be a positive int, got 0"));
        }
        if self.dynamic && mu.is_none() {
            return Err(Error::failed("this scheduler needs mu, which depends on the size of the picture"));
        }
        let mu = mu.unwrap_or(0.0);
        let round = if self.class == Class::Euler && self.spacing != Spacing::WanTwice { to_f32 } else { exact };
        let mut sigmas: Vec<f64> = self.points(steps).into_iter().map(|s| self.shifted(round(s), mu, round)).collect();
        if let (Some(terminal), Some(&last)) = (self.shift_terminal, sigmas.last()) {
            let factor = round(round(1.0 - last) / round(1.0 - terminal));
            if factor > 0.0 {
                sigmas.iter_mut().for_each(|s| *s = round(1.0 - round(round(1.0 - *s) / factor)));
            }
        }
        // ln(1 − σ) must be finite in UniPC's first update.
        if self.spacing == Spacing::Train && (sigmas[0] - 1.0).abs() < 1e-6 {
            sigmas[0] -= 1e-6;
        }
        // f32 overflows where mu exceeds 88, which grows with the size.
        if sigmas.iter().any(|s| !s.is_finite()) {
            return Err(Error::usage(format!(
                "the noise levels of this size are not finite (mu is {mu:.3e}); choose a smaller size"
            )));
        }
        Ok(sigmas)
    }

    fn points(&self, steps: usize) -> Vec<f64> {
        let end = 1.0 / steps as f64;
        match self.spacing {
            Spacing::Steps => linspace(1.0, end, steps),
            Spacing::StepsTorch => linspace_torch(1.0, end as f32, steps),
            Spacing::Train => {
                let mut points = linspace(1.0, 1.0 / self.train_timesteps, steps + 1);
                points.pop();
                points
            }
            Spacing::WanTwice => {
                let top = to_f32(1.0 - 1.0 / self.train_timesteps);
                let top = if self.dynamic { top } else { static_shift(top, self.shift, to_f32) };
                let mut points = linspace(top, 0.0, steps + 1);
                points.pop();
                points
            }
        }
    }

    fn shifted(&self, sigma: f64, mu: f64, round: Round) -> f64 {
        if !self.dynamic {
            return static_shift(sigma, self.shift, round);
        }
        let e = round(if self.time_shift == TimeShift::Exponential { mu.exp() } else { mu });
        round(e / round(e + round(round(1.0 / sigma) - 1.0)))
    }
}

impl Config {
    fn check(&self, class: Class) -> Result<()> {
        let fixed = if class == Class::Euler { FIXED_EULER } else { FIXED_UNIPC };
        for (name, default, wanted) in fixed {
            let got = self.rest.get(*name).map_or((*default).to_owned(), ToString::to_string);
            // diffusers treats null as the default where the default is false or empty.
            let same = got == *wanted || (got == "null" && matches!(*wanted, "false" | "[]"));
            if !same {
                return Err(Error::failed(format!("unsupported scheduler option {name} = {got}; supported: {wanted}")));
            }
        }
        Ok(())
    }
}

/// mu of FLUX.2 for `seq` image tokens and `steps` steps: a fit by the FLUX.2 authors, used instead of
/// [`FlowMatch::linear_mu`].
pub fn empirical_mu(seq: usize, steps: usize) -> f64 {
    let seq = seq as f64;
    let at_200 = 0.00016927 * seq + 0.45666666;
    if seq > 4300.0 {
        return at_200;
    }
    let at_10 = 8.73809524e-05 * seq + 1.89833333;
    let slope = (at_200 - at_10) / 190.0;
    slope * steps as f64 + (at_200 - 200.0 * slope)
}

/// The first step of a run that starts from a picture, as in diffusers' image-to-image pipelines: the last `strength`·`steps` steps
/// run.
///
/// # Errors
/// `strength` outside 0..=1.
pub fn first_step(steps: usize, strength: f64) -> Result<usize> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::usage(format!("strength must be in [0, 1], got {strength}")));
    }
    let n = steps as f64;
    Ok((n - (n * strength).min(n)).max(0.0) as usize)
}

/// The first step of a run that starts from a clip, as in diffusers' `WanVideoToVideoPipeline`: `strength`·`steps` is rounded down,
/// so the result is `steps` where no step is left.
pub fn first_step_of_video(steps: usize, strength: f64) -> Result<usize> {
    first_step(steps, strength)?;
    Ok(steps - ((steps as f64 * strength) as usize).min(steps))
}

/// Rounding after each operation. An f64 operation on f32 values, rounded to f32, equals the f32 operation.
type Round = fn(f64) -> f64;

fn to_f32(x: f64) -> f64 {
    f64::from(x as f32)
}

fn exact(x: f64) -> f64 {
    x
}

fn static_shift(sigma: f64, shift: f64, round: Round) -> f64 {
    round(round(round(shift) * sigma) / round(1.0 + round(round(shift - 1.0) * sigma)))
}

/// `numpy.linspace`.
fn linspace(start: f64, end: f64, n: usize) -> Vec<f64> {
    let step = if n > 1 { (end - start) / (n - 1) as f64 } else { 0.0 };
    (0..n).map(|i| if i > 0 && i + 1 == n { end } else { i as f64 * step + start }).collect()
}

/// `torch.linspace` in f32: computed from both ends to the middle, with fused multiply-adds as in torch's AVX2 and AVX512 builds.
fn linspace_torch(start: f32, end: f32, n: usize) -> Vec<f64> {
    let step = if n > 1 { (end - start) / (n - 1) as f32 } else { 0.0 };
    let at = |i: usize| match n / 2 {
        half if i < half || n == 1 => step.mul_add(i as f32, start),
        _ => (-step).mul_add((n - i - 1) as f32, end),
    };
    (0..n).map(|i| f64::from(at(i))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The reference truncates 1000·σ in f64. Without a shift that is an integer, so the last bit of f64 decides the rounding.
    #[test]
    fn timesteps_of_unipc_equal_the_reference() {
        let config = r#"{"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true,
                         "prediction_type": "flow_prediction"}"#;
        let mut bad = Vec::new();
        for (shift, limit) in [(1.0, 1.0), (3.0, 0.0), (5.0, 0.0), (8.0, 0.0), (12.0, 0.0)] {
            for spacing in [Spacing::Train, Spacing::WanTwice] {
                let schedule = FlowMatch { spacing, shift, ..FlowMatch::from_json(config).unwrap() };
                for steps in 1..=100 {
                    let curve = schedule.curve(steps, None).unwrap();
                    let apart = |s: &f64| (schedule.timestep_at(*s as f32) - (s * 1000.0).trunc() as f32).abs();
                    let worst = curve.iter().map(apart).fold(0.0, f32::max);
                    if worst > limit {
                        bad.push(format!("{spacing:?}, shift {shift}, {steps} steps: {worst} apart"));
                    }
                }
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
