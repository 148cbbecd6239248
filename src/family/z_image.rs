//! Z-Image and Z-Image-Turbo, after diffusers 0.42.1 `pipelines/z_image/pipeline_z_image.py`.

use ndarray::ArrayD;
use serde::Deserialize;

use super::interface::{
    CHANNELS, Conditioning, Convention, Defaults, Descriptor, Family, GuidanceRequest, LEVELS, LatentLayout, Overrides,
    Sampling, Size, TextCall, TextConditioning, TransformerIo,
};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{pack_channels_last, rotary, scalar, token_ids, unpack_channels_last},
    },
    schedule::{FlowMatch, Guidance, Spacing},
    spectral::Spectrum,
    tensor::{DType, Tensor},
};

/// The registry's entry.
pub(super) const FAMILY: Descriptor = Descriptor {
    pipelines: &["ZImagePipeline"],
    open: |folder, overrides| Ok(Box::new(ZImage::open(folder, overrides)?)),
};

/// Tokens of the prompt in its template: default and maximum.
const TEXT_TOKENS: usize = 512;
/// The transformer pads picture and caption each to a multiple of this number of tokens.
const TOKEN_MULTIPLE: usize = 32;
/// The static shift of Turbo's scheduler. That of Z-Image is 6.
const TURBO_SHIFT: f64 = 3.0;

#[derive(Debug, Deserialize)]
struct TransformerConfig {
    in_channels: usize,
    #[serde(default = "axes")]
    axes_dims: [usize; 3],
    #[serde(default = "theta")]
    rope_theta: f64,
}

fn axes() -> [usize; 3] {
    [32, 48, 48]
}

fn theta() -> f64 {
    256.0
}

#[derive(Debug, Deserialize)]
struct VaeConfig {
    scaling_factor: f32,
    shift_factor: f32,
    latent_channels: usize,
    block_out_channels: Vec<usize>,
}

/// The settings of a Z-Image checkpoint.
#[derive(Debug)]
struct ZImage {
    turbo: bool,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_tokens: usize,
    convention: Convention,
}

impl ZImage {
    fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        folder.check_range("latent_channels", vae.latent_channels, CHANNELS)?;
        folder.check_range("the number of block_out_channels", vae.block_out_channels.len(), LEVELS)?;
        folder.check_axes("axes_dims", &transformer.axes_dims)?;
        if transformer.in_channels != vae.latent_channels {
            let (a, b, root) = (transformer.in_channels, vae.latent_channels, folder.root().display());
            let wanted = "the transformer takes the VAE's latent";
            return Err(Error::failed(format!("{root}: in_channels {a}, but latent_channels {b}; {wanted}")));
        }
        let mut schedule = FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?;
        schedule.spacing = Spacing::StepsTorch;
        let turbo = schedule.shift <= TURBO_SHIFT;
        if let Some(shift) = overrides.flow_shift {
            schedule = schedule.with_shift(shift).at("--flow-shift")?;
        }
        Ok(Self {
            turbo,
            transformer,
            vae,
            tokens: Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?,
            schedule,
            text_tokens: overrides.text_tokens(name(turbo), 1..=TEXT_TOKENS, TEXT_TOKENS)?,
            convention: overrides.convention,
        })
    }
}

fn name(turbo: bool) -> &'static str {
    if turbo { "Z-Image-Turbo" } else { "Z-Image" }
}

/// Rotary tables of one of the two streams, under its input names.
fn tables(
    names: [&'static str; 2],
    ids: impl Iterator<Item = [usize; 3]>,
    config: &TransformerConfig,
) -> Vec<(&'static str, Tensor)> {
    let tables = rotary(ids, &config.axes_dims, config.rope_theta);
    names.into_iter().zip(tables).map(|(name, (_, table))| (name, table)).collect()
}

impl TextConditioning for ZImage {
    fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let text = format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n");
        let mut ids = self.tokens.encode_plain(&text)?;
        let (all, most) = (ids.len(), self.text_tokens);
        if all > most {
            let (cut, name) = (all - most, self.name());
            warnings.push(format!(
                "the prompt and its template have {all} tokens, and {name} reads {most}; the last {cut} are cut"
            ));
        }
        ids.truncate(most);
        Ok(vec![TextCall { component: "text_encoder", inputs: vec![("ids", token_ids(ids))], output: "states" }])
    }

    fn hidden_states(&self) -> Option<HiddenStates> {
        Some(HiddenStates { hidden: &[-2], pads: Padding::None })
    }

    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning> {
        let [text]: [Tensor; 1] =
            outputs.try_into().map_err(|_| Error::failed("Z-Image needs the output of one text encoder"))?;
        let text_tokens = text.shape()[1];
        Ok(Conditioning { inputs: vec![("text", text)], text_tokens })
    }
}

impl LatentLayout for ZImage {
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

impl Sampling for ZImage {
    fn schedule(&self) -> &FlowMatch {
        &self.schedule
    }

    /// f32 in the text-to-image pipeline, the requested type in the image-to-image pipeline.
    fn noise_dtype(&self, requested: DType, from_input: bool) -> DType {
        if from_input { requested } else { DType::F32 }
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = self.schedule.linear_mu(self.tokens(&self.latent_shape(size)));
        self.schedule.sigmas(steps, Some(mu))
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let name = self.name();
        if let Some(scale) = request.true_cfg {
            return Err(Error::usage(format!("--true-cfg-scale {scale}: {name} is guided by --guidance-scale")));
        }
        let scale = request.scale.unwrap_or(if self.turbo { 0.0 } else { 5.0 });
        if scale <= 0.0 {
            return Ok(Guidance::None);
        }
        let default = if self.convention == Convention::Sglang { Some(1.0) } else { None };
        let normalization = request.normalization.or(default).filter(|&c| c > 0.0);
        Ok(Guidance::ZImage { scale, truncation: request.truncation.unwrap_or(1.0), normalization })
    }
}

impl TransformerIo for ZImage {
    /// The caption's tokens count from 1, padding included. The picture follows them on the first axis; its padding is at 0.
    fn positions(&self, latent: &[usize], text_tokens: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let caption = text_tokens.next_multiple_of(TOKEN_MULTIPLE);
        let pads = (rows * columns).next_multiple_of(TOKEN_MULTIPLE) - rows * columns;
        let text = (0..caption).map(|i| [i + 1, 0, 0]);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [caption + 1, r, c]));
        let image = image.chain(std::iter::repeat_n([0; 3], pads));
        let mut all = tables(["rope.image.cos", "rope.image.sin"], image, &self.transformer);
        all.extend(tables(["rope.text.cos", "rope.text.sin"], text, &self.transformer));
        all
    }

    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, _: Option<f32>) -> Vec<(&'static str, Tensor)> {
        vec![("latents", Tensor::F32(pack_channels_last(latent))), ("sigma", scalar(sigma))]
    }

    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack_channels_last(output, latent)
    }
}

impl Family for ZImage {
    fn name(&self) -> &str {
        name(self.turbo)
    }

    /// Turbo's model card says 9 steps, of which its scheduler then ran 8 and a no-op. Both projects run all 9 today.
    fn defaults(&self) -> Defaults {
        Defaults { size: Size::SQUARE_1024, steps: if self.turbo { 9 } else { 50 }, fps: None }
    }
}
