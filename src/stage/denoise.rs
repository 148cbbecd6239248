//! The denoising loop at one resolution.

use std::ops::Range;

use ndarray::ArrayD;

use crate::{
    error::{At, Error, Result},
    family::{Condition, Family},
    runtime::{Network, finite},
    schedule::{guidance::Guidance, solver::Solver},
    tensor::Tensor,
};

/// What steers the loop: the same at every step and every resolution.
pub struct Steering<'a> {
    /// The family's conventions.
    pub family: &'a dyn Family,
    /// The prompt.
    pub positive: &'a Condition,
    /// The negative prompt, where guidance wants one.
    pub negative: Option<&'a Condition>,
    /// How the two predictions are combined.
    pub guidance: Guidance,
    /// The guidance scale, for networks that are told it.
    pub scale: f32,
}

/// The DiT under a steering.
pub struct Denoiser<'a> {
    network: &'a mut Network,
    steering: &'a Steering<'a>,
}

impl<'a> Denoiser<'a> {
    /// Binds a loaded DiT.
    pub fn new(network: &'a mut Network, steering: &'a Steering<'a>) -> Self {
        Self { network, steering }
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
        let family = self.steering.family;
        let positions = |c: &Condition| family.positions(x.shape(), c.text_rows);
        let (positive, negative) = (positions(self.steering.positive), self.steering.negative.map(positions));
        for i in steps {
            let place = || format!("step {}", i + 1);
            let answer = self.predict(&x, sigmas[i], self.steering.positive, &positive).at(place())?;
            let answer = match (self.steering.negative, &negative) {
                (Some(c), Some(fixed)) if self.steering.guidance.needs_negative(sigmas[i]) => {
                    let without = self.predict(&x, sigmas[i], c, fixed).at(place())?;
                    self.steering.guidance.combine(&answer, &without)
                }
                _ => answer,
            };
            let velocity = family.velocity(&answer, x.shape())?;
            x = solver.step(x, &velocity, sigmas, i);
            after(i, &x)?;
        }
        Ok(x)
    }

    fn predict(
        &mut self,
        x: &ArrayD<f32>,
        sigma: f32,
        condition: &Condition,
        positions: &[(&'static str, Tensor)],
    ) -> Result<ArrayD<f32>> {
        let step = self.steering.family.step(x, sigma, self.steering.scale);
        let inputs: Vec<(&str, &Tensor)> =
            step.iter().chain(&condition.inputs).chain(positions).map(|(name, t)| (*name, t)).collect();
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
