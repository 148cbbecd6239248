//! FLUX.1 (dev: embedded guidance; schnell: none), after diffusers 0.42.1 `pipelines/flux/pipeline_flux.py`.

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use super::interface::{
    CHANNELS, Conditioning, Convention, Defaults, Descriptor, Family, GuidanceRequest, LEVELS, LatentLayout, Overrides,
    Sampling, Size, TextCall, TextConditioning, TransformerIo,
};
use crate::{
    error::{At, Error, Result},
    model::{
        ModelFolder, Tokenizer,
        layout::{pack, rotary, scalar, token_ids, unpack},
    },
    schedule::{FlowMatch, Guidance},
    spectral::Spectrum,
    tensor::Tensor,
};

/// The registry's entry.
pub(super) const FAMILY: Descriptor =
    Descriptor { pipelines: &["FluxPipeline"], open: |folder, overrides| Ok(Box::new(Flux::open(folder, overrides)?)) };

/// T5 tokens that the transformer takes, padding included: default and maximum.
const TEXT_TOKENS: usize = 512;
/// θ of the rotary positions, a constant in the reference.
const THETA: f64 = 10_000.0;
/// The default scale of embedded guidance.
const GUIDANCE: f32 = 3.5;

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

/// The settings of a FLUX.1 checkpoint.
#[derive(Debug)]
struct Flux {
    name: &'static str,
    transformer: TransformerConfig,
    vae: VaeConfig,
    clip: ClipConfig,
    clip_tokens: Tokenizer,
    t5_tokens: Tokenizer,
    schedule: FlowMatch,
    text_tokens: usize,
    convention: Convention,
}

impl Flux {
    fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Self> {
        let tokenizer = |name| Tokenizer::open(&folder.path(name)?, folder.class_of(name)?);
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        let clip: ClipConfig = folder.config("text_encoder")?;
        folder.check_range("latent_channels", vae.latent_channels, CHANNELS)?;
        folder.check_range("the number of block_out_channels", vae.block_out_channels.len(), LEVELS)?;
        folder.check_range("max_position_embeddings", clip.max_position_embeddings, 1..=1 << 16)?;
        folder.check_axes("axes_dims_rope", &transformer.axes_dims_rope)?;
        if transformer.in_channels != 4 * vae.latent_channels {
            let (a, b) = (transformer.in_channels, vae.latent_channels);
            let root = folder.root().display();
            let wanted = "the transformer takes 2×2 patches of the VAE's latent";
            return Err(Error::failed(format!("{root}: in_channels {a}, but latent_channels {b}; {wanted}")));
        }
        let name = if transformer.guidance_embeds { "FLUX.1-dev" } else { "FLUX.1-schnell" };
        overrides.no_flow_shift(name)?;
        Ok(Self {
            name,
            transformer,
            vae,
            clip,
            clip_tokens: tokenizer("tokenizer").at("tokenizer")?,
            t5_tokens: tokenizer("tokenizer_2").at("tokenizer_2")?,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_tokens: overrides.text_tokens(name, 1..=TEXT_TOKENS, TEXT_TOKENS)?,
            convention: overrides.convention,
        })
    }

    /// The index of the end token: that of the largest id where the config has the old eos_token_id 2, else the first end token.
    fn end(&self, ids: &[i64]) -> usize {
        let eos = self.clip.eos_token_id.unwrap_or(2);
        let wanted = if eos == 2 { ids.iter().copied().max().unwrap_or(0) } else { eos };
        ids.iter().position(|&id| id == wanted).unwrap_or(0)
    }
}

impl TextConditioning for Flux {
    fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let pad = self.clip_tokens.id("<|endoftext|>").unwrap_or(49407);
        let clip = self.clip_tokens.encode_to(prompt, self.clip.max_position_embeddings, pad)?;
        let t5 = self.t5_tokens.encode_to(prompt, self.text_tokens, 0)?;
        // No warning for CLIP, which reads 77 tokens: it gives one vector for the whole prompt, and T5 reads the rest.
        warnings.extend(t5.warning("T5"));
        let end = Tensor::I64(ArrayD::from_elem(IxDyn(&[1]), self.end(&clip.ids) as i64));
        let clip = vec![("ids", token_ids(clip.ids)), ("end", end)];
        Ok(vec![
            TextCall { component: "text_encoder", inputs: clip, output: "pooled" },
            TextCall { component: "text_encoder_2", inputs: vec![("ids", token_ids(t5.ids))], output: "states" },
        ])
    }

    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning> {
        let [pooled, text]: [Tensor; 2] =
            outputs.try_into().map_err(|_| Error::failed("FLUX.1 needs the outputs of CLIP and T5"))?;
        let text_tokens = text.shape()[1];
        Ok(Conditioning { inputs: vec![("pooled", pooled), ("text", text)], text_tokens })
    }
}

impl LatentLayout for Flux {
    fn latent_channels(&self) -> usize {
        self.vae.latent_channels
    }

    fn vae_scale_factor(&self) -> usize {
        1 << (self.vae.block_out_channels.len() - 1)
    }

    fn patch_size(&self) -> usize {
        2
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::FLUX
    }

    fn denormalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent / self.vae.scaling_factor + self.vae.shift_factor
    }

    fn normalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        (latent - self.vae.shift_factor) * self.vae.scaling_factor
    }
}

impl Sampling for Flux {
    fn schedule(&self) -> &FlowMatch {
        &self.schedule
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = self.schedule.linear_mu(self.tokens(&self.latent_shape(size)));
        self.schedule.sigmas(steps, Some(mu))
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let embedded = self.transformer.guidance_embeds.then(|| request.scale.unwrap_or(GUIDANCE));
        match (request.true_cfg.filter(|&s| s > 1.0), request.negative) {
            (Some(scale), true) => Ok(Guidance::Cfg { scale, embedded }),
            (Some(scale), false) => Err(Error::usage(format!(
                "--true-cfg-scale {scale} requires --negative-prompt, which may be empty (\"\")"
            ))),
            (None, _) => Ok(embedded.map_or(Guidance::None, Guidance::Embedded)),
        }
    }
}

impl TransformerIo for Flux {
    fn positions(&self, latent: &[usize], text_tokens: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let text = std::iter::repeat_n([0, 0, 0], text_tokens);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [0, r, c]));
        rotary(text.chain(image), &self.transformer.axes_dims_rope, THETA)
    }

    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, guidance: Option<f32>) -> Vec<(&'static str, Tensor)> {
        let guidance = guidance.map(|scale| ("guidance", scalar(scale)));
        [("latents", Tensor::F32(pack(latent))), ("sigma", scalar(sigma))].into_iter().chain(guidance).collect()
    }

    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack(output, latent)
    }
}

impl Family for Flux {
    fn name(&self) -> &str {
        self.name
    }

    fn defaults(&self) -> Defaults {
        let steps = match (self.transformer.guidance_embeds, self.convention) {
            (false, _) => 4,
            (true, Convention::Diffusers) => 28,
            (true, Convention::Sglang) => 50,
        };
        Defaults { size: Size::SQUARE_1024, steps, fps: None }
    }
}
