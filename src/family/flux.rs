//! FLUX.1 (dev with embedded guidance, schnell without), as diffusers 0.42.1 `pipelines/flux/pipeline_flux.py` runs it.

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use super::{Conditioning, Convention, Defaults, Family, GuidanceRequest, Size, TextCall, check_rows};
use crate::{
    error::{At, Error, Result},
    model::{
        Ids, ModelFolder, Tokenizer,
        layout::{pack, rotary, unpack},
    },
    schedule::{guidance::Guidance, sigmas::FlowMatch, solver::Solver},
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// Rows of T5 states that the DiT sees, padding among them; fewer may be asked for.
const TEXT_ROWS: usize = 512;
/// θ of the rotary positions; a constant in the reference.
const THETA: f64 = 10_000.0;

#[derive(Debug, Deserialize)]
struct TransformerConfig {
    in_channels: usize,
    guidance_embeds: bool,
    #[serde(default = "axes")]
    axes_dims_rope: Vec<usize>,
}

fn axes() -> Vec<usize> {
    vec![16, 56, 56]
}

#[derive(Debug, Deserialize)]
struct VaeConfig {
    scaling_factor: f32,
    shift_factor: f32,
    latent_channels: usize,
    block_out_channels: Vec<usize>,
}

#[derive(Debug, Deserialize)]
struct ClipConfig {
    eos_token_id: Option<i64>,
    max_position_embeddings: usize,
}

/// One FLUX.1 checkpoint's settings.
#[derive(Debug)]
pub struct Flux {
    name: String,
    transformer: TransformerConfig,
    vae: VaeConfig,
    clip: ClipConfig,
    clip_tokens: Tokenizer,
    t5_tokens: Tokenizer,
    schedule: FlowMatch,
    text_rows: usize,
}

impl Flux {
    /// Reads configs and tokenizers; no weights.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let tokenizer = |name| Tokenizer::open(&folder.path(name)?, folder.class_of(name)?);
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        if transformer.in_channels != 4 * vae.latent_channels {
            let (a, b) = (transformer.in_channels, vae.latent_channels);
            let root = folder.root().display();
            let wanted = "the transformer takes 2×2 patches of the VAE's latent";
            return Err(Error::failed(format!("{root}: in_channels {a} against latent_channels {b}; {wanted}")));
        }
        let variant = if transformer.guidance_embeds { "dev" } else { "schnell" };
        Ok(Self {
            name: format!("FLUX.1-{variant}"),
            transformer,
            vae,
            clip: folder.config("text_encoder")?,
            clip_tokens: tokenizer("tokenizer").at("tokenizer")?,
            t5_tokens: tokenizer("tokenizer_2").at("tokenizer_2")?,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_rows: TEXT_ROWS,
        })
    }

    /// The place of the end token: the largest id where the config is of the old form (eos_token_id 2), else the first end token.
    fn end(&self, ids: &[i64]) -> usize {
        let eos = self.clip.eos_token_id.unwrap_or(2);
        let wanted = if eos == 2 { ids.iter().copied().max().unwrap_or(0) } else { eos };
        ids.iter().position(|&id| id == wanted).unwrap_or(0)
    }
}

fn ids(ids: Vec<i64>) -> Tensor {
    let n = ids.len();
    Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[1, n]), ids).unwrap_or_default())
}

fn cut(notes: &mut Vec<String>, encoder: &str, ids: &Ids) {
    if ids.cut > 0 {
        let (kept, all) = (ids.used, ids.used + ids.cut);
        notes.push(format!(
            "the prompt has {all} tokens for {encoder}, which reads {kept}; the last {} are cut",
            ids.cut
        ));
    }
}

impl Family for Flux {
    fn name(&self) -> &str {
        &self.name
    }

    fn defaults(&self, convention: Convention) -> Defaults {
        let steps = match (self.transformer.guidance_embeds, convention) {
            (false, _) => 4,
            (true, Convention::Diffusers) => 28,
            (true, Convention::Sglang) => 50,
        };
        let size = Size { height: 1024, width: 1024, frames: 1 };
        Defaults { size, steps, guidance: 3.5, fps: None }
    }

    fn text_rows(&self) -> usize {
        self.text_rows
    }

    fn set_text_rows(&mut self, rows: usize) -> Result<()> {
        check_rows(self.name(), rows, 1..=TEXT_ROWS)?;
        self.text_rows = rows;
        Ok(())
    }

    fn factor(&self) -> usize {
        1 << (self.vae.block_out_channels.len() - 1)
    }

    fn patch(&self) -> usize {
        2
    }

    fn latent_shape(&self, size: Size) -> Vec<usize> {
        vec![1, self.vae.latent_channels, size.height / self.factor(), size.width / self.factor()]
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::FLUX
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = self.schedule.linear_mu(self.tokens(&self.latent_shape(size)));
        self.schedule.sigmas(steps, Some(mu))
    }

    fn solver(&self, latents: DType) -> Box<dyn Solver + Send> {
        self.schedule.solver(latents)
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let cfg = request.true_cfg.filter(|&s| s > 1.0);
        match (cfg, request.negative) {
            (Some(scale), true) => Ok(Guidance::Cfg { scale }),
            (Some(scale), false) => Err(Error::usage(format!(
                "--true-cfg-scale {scale} needs --negative-prompt; an empty one (\"\") will do"
            ))),
            _ if self.transformer.guidance_embeds => Ok(Guidance::Embedded(request.scale.unwrap_or(3.5))),
            _ => Ok(Guidance::None),
        }
    }

    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let pad = self.clip_tokens.id("<|endoftext|>").unwrap_or(49407);
        let clip = self.clip_tokens.encode_to(prompt, self.clip.max_position_embeddings, pad)?;
        let t5 = self.t5_tokens.encode_to(prompt, self.text_rows, 0)?;
        // CLIP only colours the whole; what it cannot read, T5 still may.
        cut(notes, "T5", &t5);
        let end = Tensor::I64(ArrayD::from_elem(IxDyn(&[1]), self.end(&clip.ids) as i64));
        let clip = vec![("ids", ids(clip.ids)), ("end", end)];
        Ok(vec![
            TextCall { component: "text_encoder", inputs: clip, output: "pooled" },
            TextCall { component: "text_encoder_2", inputs: vec![("ids", ids(t5.ids))], output: "states" },
        ])
    }

    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning> {
        let [pooled, text]: [Tensor; 2] =
            states.try_into().map_err(|_| Error::failed("FLUX.1 wants the answers of CLIP and T5"))?;
        let text_rows = text.shape()[1];
        Ok(Conditioning { inputs: vec![("pooled", pooled), ("text", text)], text_rows })
    }

    fn positions(&self, latent: &[usize], text_rows: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let text = std::iter::repeat_n([0, 0, 0], text_rows);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [0, r, c]));
        rotary(text.chain(image), &self.transformer.axes_dims_rope, THETA)
    }

    fn step(&self, latent: &ArrayD<f32>, sigma: f32, scale: f32) -> Vec<(&'static str, Tensor)> {
        let one = |v: f32| Tensor::F32(ArrayD::from_elem(IxDyn(&[1]), v));
        let mut inputs = vec![("latents", Tensor::F32(pack(latent))), ("sigma", one(sigma))];
        if self.transformer.guidance_embeds {
            inputs.push(("guidance", one(scale)));
        }
        inputs
    }

    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack(answer, latent)
    }

    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent / self.vae.scaling_factor + self.vae.shift_factor
    }

    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        (latent - self.vae.shift_factor) * self.vae.scaling_factor
    }
}
