//! The denoising loop: a solver moves a latent along the flow ODE dx/dσ = v, with velocities that a DiT predicts.
//!
//! [`denoise`] is the only loop. It calls any velocity function: [`Denoiser::velocity`] for a whole latent, or [`tiled`] around it
//! for one tile at a time.
//!
//! Tiled denoising is joint (MultiDiffusion, arXiv:2302.08113 eq. 4 and 5). At every step the velocity of each tile is predicted
//! from the same latent, the velocities are blended, and the solver takes one step on the whole latent.
//! Tiles that are denoised separately would diverge. The noise is drawn for the whole latent, so it does not depend on the tiles.
//! The paper weights all tiles equally; the linear ramps of [`Tiles::ramped`] keep seams invisible where two predictions differ.

use std::ops::Range;

use ndarray::{ArrayD, Axis, Slice};

use crate::{
    error::{At, Error, Result},
    family::{Conditioning, Family},
    runtime::{Network, finite},
    schedule::{Guidance, Solver},
    tensor::Tensor,
    tiling::{Tiles, crop},
};

/// Predicts the velocity of a latent ([1, c, h, w] or [1, c, t, h, w]) at a σ. The result has the latent's shape.
pub type Velocity<'a> = &'a mut dyn FnMut(&ArrayD<f32>, f32) -> Result<ArrayD<f32>>;

/// Runs `steps` of the schedule `sigmas` on a latent ([1, c, h, w] or [1, c, t, h, w]). `after` receives the number of each
/// finished step and the latent after it.
///
/// # Errors
/// Those of `velocity`, with the step's number, and of `after`.
pub fn denoise(
    mut x: ArrayD<f32>,
    sigmas: &[f32],
    steps: Range<usize>,
    solver: &mut dyn Solver,
    velocity: Velocity<'_>,
    after: &mut dyn FnMut(usize, &ArrayD<f32>) -> Result<()>,
) -> Result<ArrayD<f32>> {
    for i in steps {
        let v = velocity(&x, sigmas[i]).at(format!("step {}", i + 1))?;
        x = solver.step(x, &v, sigmas, i);
        after(i, &x)?;
    }
    Ok(x)
}

/// The velocity of a latent [1, c, h, w] at `sigma`, predicted tile by tile and blended. Memory beyond the latent is that of one
/// tile.
///
/// # Errors
/// Those of `velocity`, with the tile's position.
pub fn tiled(x: &ArrayD<f32>, sigma: f32, tiles: &Tiles, velocity: Velocity<'_>) -> Result<ArrayD<f32>> {
    tiles.assemble(|rows, columns| {
        velocity(&crop(x, rows, columns), sigma).at(format!("the tile at {}, {}", rows.start, columns.start))
    })
}

/// The conditioning of a DiT with its guidance, the same at every step and resolution.
pub struct GuidedPrompt<'a> {
    /// The family's conventions.
    pub family: &'a dyn Family,
    /// The prompt.
    pub positive: &'a Conditioning,
    /// The negative prompt, if guidance needs one.
    pub negative: Option<&'a Conditioning>,
    /// How the two predictions are combined.
    pub guidance: Guidance,
}

/// A DiT with its conditioning.
pub struct Denoiser<'a> {
    network: &'a mut Network,
    prompt: &'a GuidedPrompt<'a>,
    batched: bool,
    positions: Option<Positions>,
}

/// Positions for one latent shape. They are the same at every step and in every tile of one size.
struct Positions {
    shape: Vec<usize>,
    positive: Vec<(&'static str, Tensor)>,
    negative: Vec<(&'static str, Tensor)>,
}

impl<'a> Denoiser<'a> {
    /// Binds a loaded DiT.
    pub fn new(network: &'a mut Network, prompt: &'a GuidedPrompt<'a>) -> Self {
        Self { network, prompt, batched: false, positions: None }
    }

    /// With `batched`, the two predictions of guidance are one call with a batch of two, if both prompts have the same shape.
    pub fn batched(mut self, batched: bool) -> Self {
        self.batched = batched && self.prompt.negative.is_some_and(|n| n.can_batch_with(self.prompt.positive));
        self
    }

    /// The guided velocity of a latent ([1, c, h, w] or [1, c, t, h, w]) at `sigma`, in its shape.
    ///
    /// # Errors
    /// Those of the network; a prediction that is not finite.
    pub fn velocity(&mut self, x: &ArrayD<f32>, sigma: f32) -> Result<ArrayD<f32>> {
        let prompt = self.prompt;
        let of = |c: &Conditioning| prompt.family.positions(x.shape(), c.text_tokens);
        let cached = self.positions.take().filter(|p| p.shape == x.shape());
        let p = cached.unwrap_or_else(|| Positions {
            shape: x.shape().to_vec(),
            positive: of(prompt.positive),
            negative: prompt.negative.map(of).unwrap_or_default(),
        });
        let prediction = match prompt.negative.filter(|_| prompt.guidance.needs_negative(sigma)) {
            Some(negative) if self.batched => {
                let (with, without) = self.predict_both(x, sigma, negative, &p.positive)?;
                prompt.guidance.combine(&with, &without)
            }
            Some(negative) => {
                let with = self.predict(x, sigma, prompt.positive, &p.positive)?;
                let without = self.predict(x, sigma, negative, &p.negative)?;
                prompt.guidance.combine(&with, &without)
            }
            None => self.predict(x, sigma, prompt.positive, &p.positive)?,
        };
        self.positions = Some(p);
        prompt.family.velocity(&prediction, x.shape())
    }

    /// The predictions for the prompt and for `negative`, from one call. Positions are the same for both and have no batch axis.
    fn predict_both(
        &mut self,
        x: &ArrayD<f32>,
        sigma: f32,
        negative: &Conditioning,
        positions: &[(&'static str, Tensor)],
    ) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
        let step = self.prompt.family.step_inputs(x, sigma, self.prompt.guidance.embedded());
        let mut pairs = Vec::with_capacity(step.len() + negative.inputs.len());
        for (name, t) in &step {
            pairs.push((*name, t.stack(t)?));
        }
        for ((name, with), (_, without)) in self.prompt.positive.inputs.iter().zip(&negative.inputs) {
            pairs.push((*name, with.stack(without)?));
        }
        let both = self.call(pairs.iter().chain(positions).map(|(name, t)| (*name, t)).collect())?;
        if both.shape().first() != Some(&2) {
            let (name, shape) = (self.network.name(), both.shape());
            return Err(Error::failed(format!("{name}: expected an output with a batch of 2, got {shape:?}")));
        }
        let item = |k: usize| both.slice_axis(Axis(0), Slice::from(k..k + 1)).as_standard_layout().into_owned();
        Ok((item(0), item(1)))
    }

    fn predict(
        &mut self,
        x: &ArrayD<f32>,
        sigma: f32,
        conditioning: &Conditioning,
        positions: &[(&'static str, Tensor)],
    ) -> Result<ArrayD<f32>> {
        let step = self.prompt.family.step_inputs(x, sigma, self.prompt.guidance.embedded());
        self.call(step.iter().chain(&conditioning.inputs).chain(positions).map(|(name, t)| (*name, t)).collect())
    }

    /// Runs the network once and returns its first output.
    fn call(&mut self, inputs: Vec<(&str, &Tensor)>) -> Result<ArrayD<f32>> {
        let name = self.network.name().to_string();
        let missing = || Error::failed(format!("{name}: no floating-point output"));
        let (_, output) = self.network.run(&inputs)?.into_iter().next().ok_or_else(missing)?;
        if matches!(output, Tensor::F32(_)) {
            finite(&format!("{name}'s prediction"), &output)?;
        }
        match output {
            Tensor::F32(output) => Ok(output),
            Tensor::I64(_) => Err(missing()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ndarray::IxDyn;

    use super::*;
    use crate::{schedule::Euler, tensor::DType};

    /// With a pointwise velocity, tiles change nothing: bit-identical with one tile, equal to rounding with many.
    #[test]
    fn tiled_denoising_equals_untiled() {
        let sigmas = [1.0f32, 0.8, 0.5, 0.2, 0.0];
        let mut pointwise = |x: &ArrayD<f32>, sigma: f32| Ok(x.mapv(|v| (3.0 * v).sin() - sigma * v * v));
        let value = |i: IxDyn| ((i[2] * 7 + i[3] * 13 + i[1] * 5) % 31) as f32 / 31.0 - 0.4;
        let start = ArrayD::from_shape_fn(IxDyn(&[1, 2, 20, 28]), value);
        let run = |velocity: Velocity<'_>| {
            let mut solver = Euler { latents: DType::F32 };
            denoise(start.clone(), &sigmas, 1..4, &mut solver, velocity, &mut |_, _| Ok(())).unwrap()
        };
        let wanted = run(&mut pointwise);
        let mut bad = Vec::new();
        for (side, overlap, limit) in [(28, 8, 0.0), (64, 8, 0.0), (16, 4, 1e-6), (8, 4, 1e-6), (8, 0, 1e-6)] {
            let tiles = Tiles::ramped((20, 28), side, overlap, 2);
            let x = run(&mut |x, sigma| tiled(x, sigma, &tiles, &mut pointwise));
            let error = (&x - &wanted).iter().fold(0f32, |m, d| m.max(d.abs()));
            if error > limit {
                bad.push(format!("{} tiles of {:?}: differ by {error}", tiles.count(), tiles.tile_size()));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }
}
