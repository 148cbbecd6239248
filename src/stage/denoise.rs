//! The denoising loop at one resolution.

use std::ops::Range;

use ndarray::{ArrayD, Axis, Slice};

use crate::{
    error::{At, Error, Result},
    family::{Conditioning, Family},
    runtime::{Network, finite},
    schedule::{guidance::Guidance, solver::Solver},
    tensor::Tensor,
};

/// What steers the loop: the same at every step and every resolution.
pub struct Steering<'a> {
    /// The family's conventions.
    pub family: &'a dyn Family,
    /// The prompt.
    pub positive: &'a Conditioning,
    /// The negative prompt, where guidance wants one.
    pub negative: Option<&'a Conditioning>,
    /// How the two predictions are combined.
    pub guidance: Guidance,
}

/// The DiT under a steering.
pub struct Denoiser<'a> {
    network: &'a mut Network,
    steering: &'a Steering<'a>,
    together: bool,
    positions: Option<Positions>,
}

/// Positions of the last latent's shape: they are the same at every step, and in every tile of one size.
struct Positions {
    shape: Vec<usize>,
    positive: Vec<(&'static str, Tensor)>,
    negative: Vec<(&'static str, Tensor)>,
}

impl<'a> Denoiser<'a> {
    /// Binds a loaded DiT.
    pub fn new(network: &'a mut Network, steering: &'a Steering<'a>) -> Self {
        Self { network, steering, together: false, positions: None }
    }

    /// Where `together`, guidance's two predictions are one call of a batch of two, if the two prompts are of one length.
    pub fn together(mut self, together: bool) -> Self {
        self.together = together && self.steering.negative.is_some_and(|n| n.can_batch_with(self.steering.positive));
        self
    }

    /// Steps `steps` of the schedule on a latent ([1, c, h, w] or [1, c, t, h, w]). `after` sees each step's number and latent, and may stop.
    pub fn run(
        &mut self,
        mut x: ArrayD<f32>,
        sigmas: &[f32],
        steps: Range<usize>,
        solver: &mut dyn Solver,
        after: &mut dyn FnMut(usize, &ArrayD<f32>) -> Result<()>,
    ) -> Result<ArrayD<f32>> {
        for i in steps {
            let velocity = self.velocity(&x, sigmas[i]).at(format!("step {}", i + 1))?;
            x = solver.step(x, &velocity, sigmas, i);
            after(i, &x)?;
        }
        Ok(x)
    }

    /// The guided velocity of a latent ([1, c, h, w] or [1, c, t, h, w]) at `sigma`, of its shape.
    pub fn velocity(&mut self, x: &ArrayD<f32>, sigma: f32) -> Result<ArrayD<f32>> {
        let steering = self.steering;
        let of = |c: &Conditioning| steering.family.positions(x.shape(), c.text_tokens);
        let kept = self.positions.take().filter(|p| p.shape == x.shape());
        let p = kept.unwrap_or_else(|| Positions {
            shape: x.shape().to_vec(),
            positive: of(steering.positive),
            negative: steering.negative.map(of).unwrap_or_default(),
        });
        let answer = match steering.negative.filter(|_| steering.guidance.needs_negative(sigma)) {
            Some(c) if self.together => {
                let (with, without) = self.predict_both(x, sigma, c, &p.positive)?;
                steering.guidance.combine(&with, &without)
            }
            Some(c) => {
                let with = self.predict(x, sigma, steering.positive, &p.positive)?;
                let without = self.predict(x, sigma, c, &p.negative)?;
                steering.guidance.combine(&with, &without)
            }
            None => self.predict(x, sigma, steering.positive, &p.positive)?,
        };
        self.positions = Some(p);
        steering.family.velocity(&answer, x.shape())
    }

    /// The predictions with the prompt and with `negative`, from one call. Positions are the same for both and have no batch axis.
    fn predict_both(
        &mut self,
        x: &ArrayD<f32>,
        sigma: f32,
        negative: &Conditioning,
        positions: &[(&'static str, Tensor)],
    ) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
        let step = self.steering.family.step_inputs(x, sigma, self.steering.guidance.embedded());
        let mut pairs = Vec::with_capacity(step.len() + negative.inputs.len());
        for (name, t) in &step {
            pairs.push((*name, t.stack(t)?));
        }
        for ((name, with), (_, without)) in self.steering.positive.inputs.iter().zip(&negative.inputs) {
            pairs.push((*name, with.stack(without)?));
        }
        let both = self.call(pairs.iter().chain(positions).map(|(name, t)| (*name, t)).collect())?;
        if both.shape().first() != Some(&2) {
            let (name, shape) = (self.network.name(), both.shape());
            return Err(Error::failed(format!("{name}: answered {shape:?} where a batch of two was wanted")));
        }
        let item = |k: usize| both.slice_axis(Axis(0), Slice::from(k..k + 1)).as_standard_layout().into_owned();
        Ok((item(0), item(1)))
    }

    fn predict(
        &mut self,
        x: &ArrayD<f32>,
        sigma: f32,
        condition: &Conditioning,
        positions: &[(&'static str, Tensor)],
    ) -> Result<ArrayD<f32>> {
        let step = self.steering.family.step_inputs(x, sigma, self.steering.guidance.embedded());
        self.call(step.iter().chain(&condition.inputs).chain(positions).map(|(name, t)| (*name, t)).collect())
    }

    /// One call of the network; its only output.
    fn call(&mut self, inputs: Vec<(&str, &Tensor)>) -> Result<ArrayD<f32>> {
        let answer = self.network.run(&inputs)?.into_iter().next();
        let Some((_, Tensor::F32(answer))) = answer else {
            return Err(Error::failed(format!("{}: no floating output", self.network.name())));
        };
        let answer = Tensor::F32(answer);
        finite(&format!("{}'s prediction", self.network.name()), &answer)?;
        match answer {
            Tensor::F32(answer) => Ok(answer),
            Tensor::I64(_) => unreachable!("made floating above"),
        }
    }
}
