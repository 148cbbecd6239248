//! Metadata with the settings of a run, in the `parameters` form of the A1111 web interface, which image viewers read:
//!
//! ```text
//! prompt
//! Negative prompt: text
//! Steps: 50, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 1024x1024, Model: FLUX.1, …, Version: crescendo 0.1.0
//! ```
//!
//! A PNG carries it as the text chunk `parameters`, JPEG, WebP and TIFF as the EXIF user comment, a video as the container's
//! `comment`.

use std::fmt;

use super::{
    picture::{PARAMETERS, Picture},
    video::VideoSpec,
};

/// Keyword that the parameters of an enhanced picture's input get.
const SOURCE_KEYWORD: &str = "source parameters";
/// Key of the metadata of a video container.
const CONTAINER_KEY: &str = "comment";

/// The settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The negative prompt; `None`: the family's default.
    pub negative_prompt: Option<&'a str>,
    /// Sampling steps.
    pub steps: usize,
    /// The name of the solver.
    pub sampler: &'a str,
    /// Guidance scale.
    pub guidance_scale: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// The model family's name.
    pub model: &'a str,
    /// Strength of denoising, 0 to 1; `None`: the output was made from noise alone.
    pub strength: Option<f64>,
    /// Further settings, by name.
    pub more: Vec<(&'static str, String)>,
}

impl fmt::Display for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.prompt)?;
        if let Some(negative) = self.negative_prompt {
            write!(f, "\nNegative prompt: {negative}")?;
        }
        let Self { steps, sampler, guidance_scale, seed, size: (width, height), model, .. } = self;
        write!(f, "\nSteps: {steps}, Sampler: {sampler}, CFG scale: {guidance_scale}, Seed: {seed}")?;
        write!(f, ", Size: {width}x{height}, Model: {model}")?;
        if let Some(strength) = self.strength {
            write!(f, ", Denoising strength: {strength}")?;
        }
        for (name, value) in &self.more {
            write!(f, ", {name}: {value}")?;
        }
        write!(f, ", Version: crescendo {}", env!("CARGO_PKG_VERSION"))
    }
}

impl Parameters<'_> {
    /// Adds the parameters to a picture's text. Those that it already has become `source parameters`.
    pub fn sign_picture(&self, picture: &mut Picture) {
        for (keyword, _) in picture.text.iter_mut().filter(|(keyword, _)| keyword == PARAMETERS) {
            *keyword = SOURCE_KEYWORD.into();
        }
        picture.text.push((PARAMETERS.into(), self.to_string()));
    }

    /// Adds the parameters to a video's container metadata.
    pub fn sign_video(&self, spec: &mut VideoSpec) {
        spec.metadata.push((CONTAINER_KEY.into(), self.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Frame, Samples};

    #[test]
    fn text_and_keywords() {
        let mut parameters = Parameters {
            prompt: "a lake",
            negative_prompt: None,
            steps: 50,
            sampler: "Euler",
            guidance_scale: 3.5,
            seed: 42,
            size: (64, 32),
            model: "FLUX.1",
            strength: None,
            more: Vec::new(),
        };
        let version = env!("CARGO_PKG_VERSION");
        let plain = format!(
            "a lake\nSteps: 50, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 64x32, Model: FLUX.1, Version: crescendo {version}"
        );
        assert_eq!(parameters.to_string(), plain);
        let frame = Frame { width: 1, height: 1, channels: 3, samples: Samples::U8(vec![0; 3]) };
        let mut picture = Picture::from(frame);
        parameters.sign_picture(&mut picture);
        (parameters.negative_prompt, parameters.strength) = (Some("fog"), Some(0.3));
        parameters.more.push(("Refine by", "latent".into()));
        parameters.sign_picture(&mut picture);
        let full = format!(
            "a lake\nNegative prompt: fog\nSteps: 50, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 64x32, Model: FLUX.1, \
             Denoising strength: 0.3, Refine by: latent, Version: crescendo {version}"
        );
        assert_eq!(picture.text, [("source parameters".into(), plain), ("parameters".into(), full)]);
    }
}
