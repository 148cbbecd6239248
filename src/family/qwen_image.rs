//! Qwen-Image, after diffusers 0.42.1 `pipelines/qwenimage/pipeline_qwenimage.py`.

use ndarray::{Array1, ArrayD, Axis, IxDyn, Slice};
use serde::Deserialize;

use super::interface::{
    CHANNELS, Conditioning, Convention, Defaults, Descriptor, Family, GuidanceRequest, LEVELS, LatentLayout, Overrides,
    Sampling, Size, TextCall, TextConditioning, TransformerIo,
};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{pack, rotary_signed, scalar, token_ids, unpack},
    },
    schedule::{FlowMatch, Guidance},
    spectral::Spectrum,
    tensor::Tensor,
};

/// The registry's entry.
pub(super) const FAMILY: Descriptor = Descriptor {
    pipelines: &["QwenImagePipeline"],
    open: |folder, overrides| Ok(Box::new(QwenImage::open(folder, overrides)?)),
};

const NAME: &str = "Qwen-Image";
/// Text tokens that the transformer takes at most: the default, and the limit of `--max-sequence-length`.
const TEXT_TOKENS: [usize; 2] = [512, 1024];
/// Tokens of [`PREFIX`]. Their hidden states are dropped.
const PREFIX_TOKENS: usize = 34;
const PREFIX: &str = "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, \
                      spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n";
const SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n";
/// θ of the rotary positions, a constant in the reference.
const THETA: f64 = 10_000.0;
/// The scale of true CFG where a negative prompt is given, but no scale.
const TRUE_CFG: f32 = 4.0;

#[derive(Debug, Deserialize)]
struct TransformerConfig {
    in_channels: usize,
    #[serde(default = "axes")]
    axes_dims_rope: [usize; 3],
}

fn axes() -> [usize; 3] {
    [16, 56, 56]
}

#[derive(Debug, Deserialize)]
struct VaeConfig {
    z_dim: usize,
    dim_mult: Vec<usize>,
    latents_mean: Vec<f32>,
    latents_std: Vec<f32>,
}

/// The settings of a Qwen-Image checkpoint.
#[derive(Debug)]
struct QwenImage {
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_tokens: usize,
    convention: Convention,
}

impl QwenImage {
    fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        folder.check_range("z_dim", vae.z_dim, CHANNELS)?;
        folder.check_range("the number of dim_mult", vae.dim_mult.len(), LEVELS)?;
        folder.check_axes("axes_dims_rope", &transformer.axes_dims_rope)?;
        let (channels, z) = (transformer.in_channels, vae.z_dim);
        let statistics = (vae.latents_mean.len(), vae.latents_std.len());
        if channels != 4 * z || statistics != (z, z) {
            let root = folder.root().display();
            let wanted = "the transformer takes 2×2 patches of the VAE's latent, which has a mean and a standard deviation per channel";
            return Err(Error::failed(format!(
                "{root}: in_channels {channels}, but z_dim {z}, statistics of {statistics:?} channels; {wanted}"
            )));
        }
        let tokens = Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?;
        let prefix = tokens.encode_plain(PREFIX)?.len();
        if prefix != PREFIX_TOKENS {
            let root = folder.root().display();
            return Err(Error::failed(format!(
                "{root}: the template's prefix has {prefix} tokens, and the model was trained on {PREFIX_TOKENS}; \
                 the tokenizer is of another model"
            )));
        }
        overrides.no_flow_shift(NAME)?;
        Ok(Self {
            transformer,
            vae,
            tokens,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_tokens: overrides.text_tokens(NAME, 1..=TEXT_TOKENS[1], TEXT_TOKENS[0])?,
            convention: overrides.convention,
        })
    }

    /// One value per channel, broadcast over latents [1, c, h, w].
    fn per_channel(values: &[f32]) -> ArrayD<f32> {
        let values = Array1::from(values.to_vec()).into_dyn();
        let shape = IxDyn(&[1, values.len(), 1, 1]);
        values.into_shape_with_order(shape).unwrap_or_default()
    }
}

impl TextConditioning for QwenImage {
    fn negative_prompt(&self) -> &str {
        " "
    }

    fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_plain(&format!("{PREFIX}{prompt}{SUFFIX}"))?;
        let (all, most) = (ids.len(), PREFIX_TOKENS + self.text_tokens);
        if all > most {
            let kept = self.text_tokens;
            warnings.push(format!(
                "the prompt and its template have more than {kept} tokens; the last {} are cut",
                all - most
            ));
        }
        ids.truncate(most);
        let inputs = vec![("ids", token_ids(ids))];
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn hidden_states(&self) -> Option<HiddenStates> {
        Some(HiddenStates { hidden: &[-1], pads: Padding::None })
    }

    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning> {
        let wrong = || {
            Error::failed("Qwen-Image needs the hidden states of one text encoder, longer than its template's prefix")
        };
        let [Tensor::F32(hidden)]: [Tensor; 1] = outputs.try_into().map_err(|_| wrong())? else { return Err(wrong()) };
        if hidden.ndim() != 3 || hidden.shape()[1] <= PREFIX_TOKENS {
            return Err(wrong());
        }
        let text = hidden.slice_axis(Axis(1), Slice::from(PREFIX_TOKENS..)).to_owned();
        let text_tokens = text.shape()[1];
        Ok(Conditioning { inputs: vec![("text", Tensor::F32(text))], text_tokens })
    }
}

impl LatentLayout for QwenImage {
    fn latent_channels(&self) -> usize {
        self.vae.z_dim
    }

    fn vae_scale_factor(&self) -> usize {
        1 << (self.vae.dim_mult.len() - 1)
    }

    fn patch_size(&self) -> usize {
        2
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::FLUX
    }

    fn denormalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent * Self::per_channel(&self.vae.latents_std) + Self::per_channel(&self.vae.latents_mean)
    }

    fn normalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        (latent - Self::per_channel(&self.vae.latents_mean)) / Self::per_channel(&self.vae.latents_std)
    }
}

impl Sampling for QwenImage {
    fn schedule(&self) -> &FlowMatch {
        &self.schedule
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = self.schedule.linear_mu(self.tokens(&self.latent_shape(size)));
        self.schedule.sigmas(steps, Some(mu))
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        // SGLang's name for the scale is --guidance-scale. diffusers uses that only for distilled checkpoints, and none exists.
        let requested = match (request.true_cfg, request.scale) {
            (Some(a), Some(b)) if a != b => {
                let name = self.name();
                return Err(Error::usage(format!(
                    "--true-cfg-scale {a} and --guidance-scale {b}: {name} has one guidance; give one of them"
                )));
            }
            (a, b) => a.or(b),
        };
        // diffusers guides only where a negative prompt is given, SGLang always.
        let guided = request.negative || self.convention == Convention::Sglang;
        let scale = requested.or(guided.then_some(TRUE_CFG)).unwrap_or(1.0);
        Ok(if scale > 1.0 { Guidance::TokenNorm { scale } } else { Guidance::None })
    }
}

impl TransformerIo for QwenImage {
    /// The picture is centred on 0. Text positions continue along the diagonal from its edge.
    fn positions(&self, latent: &[usize], text_tokens: usize) -> Vec<(&'static str, Tensor)> {
        let centred = |n: usize| (n / 2) as i64 - n as i64..(n / 2) as i64;
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let edge = (rows / 2).max(columns / 2) as i64;
        let text = (0..text_tokens as i64).map(|i| [edge + i; 3]);
        let image = centred(rows).flat_map(|r| centred(columns).map(move |c| [0, r, c]));
        rotary_signed(text.chain(image), &self.transformer.axes_dims_rope, THETA)
    }

    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, _: Option<f32>) -> Vec<(&'static str, Tensor)> {
        vec![("latents", Tensor::F32(pack(latent))), ("sigma", scalar(sigma))]
    }

    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack(output, latent)
    }
}

impl Family for QwenImage {
    fn name(&self) -> &str {
        NAME
    }

    fn defaults(&self) -> Defaults {
        Defaults { size: Size::SQUARE_1024, steps: 50, fps: None }
    }
}
