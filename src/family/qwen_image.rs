//! Qwen-Image, as diffusers 0.42.1 `pipelines/qwenimage/pipeline_qwenimage.py` runs it.

use ndarray::{Array1, Array2, ArrayD, IxDyn};
use serde::Deserialize;

use super::{Conditioning, Convention, Defaults, Family, GuidanceRequest, Size, TextCall, check_rows};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{pack, rotary_signed, unpack},
    },
    schedule::{guidance::Guidance, sigmas::FlowMatch, solver::Solver},
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// Rows of text that the DiT sees at most when nothing is asked, and the most that may be asked for.
const TEXT_ROWS: [usize; 2] = [512, 1024];
/// Tokens of [`PREFIX`]; their states are dropped.
const PREFIX_TOKENS: usize = 34;
const PREFIX: &str = "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, \
                      spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n";
const SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n";
/// θ of the rotary positions; a constant in the reference.
const THETA: f64 = 10_000.0;
/// s of true CFG where a negative prompt is given and no scale.
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

/// One Qwen-Image checkpoint's settings.
#[derive(Debug)]
pub struct QwenImage {
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_rows: usize,
}

impl QwenImage {
    /// Reads configs and the tokenizer; no weights.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        let (channels, z) = (transformer.in_channels, vae.z_dim);
        let statistics = (vae.latents_mean.len(), vae.latents_std.len());
        if channels != 4 * z || statistics != (z, z) {
            let root = folder.root().display();
            let wanted =
                "the transformer takes 2×2 patches of the VAE's latent, which has a mean and a deviation per channel";
            return Err(Error::failed(format!(
                "{root}: in_channels {channels} against z_dim {z}, statistics of {statistics:?} channels; {wanted}"
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
        Ok(Self {
            transformer,
            vae,
            tokens,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_rows: TEXT_ROWS[0],
        })
    }

    /// A statistic per channel, against latents [1, c, h, w].
    fn per_channel(values: &[f32]) -> ArrayD<f32> {
        let values = Array1::from(values.to_vec()).into_dyn();
        let shape = IxDyn(&[1, values.len(), 1, 1]);
        values.into_shape_with_order(shape).unwrap_or_default()
    }
}

impl Family for QwenImage {
    fn name(&self) -> &str {
        "Qwen-Image"
    }

    fn defaults(&self, _: Convention) -> Defaults {
        let size = Size { height: 1024, width: 1024, frames: 1 };
        Defaults { size, steps: 50, guidance: TRUE_CFG, fps: None }
    }

    fn text_rows(&self) -> usize {
        self.text_rows
    }

    fn set_text_rows(&mut self, rows: usize) -> Result<()> {
        check_rows(self.name(), rows, 1..=TEXT_ROWS[1])?;
        self.text_rows = rows;
        Ok(())
    }

    fn factor(&self) -> usize {
        1 << (self.vae.dim_mult.len() - 1)
    }

    fn patch(&self) -> usize {
        2
    }

    fn latent_shape(&self, size: Size) -> Vec<usize> {
        vec![1, self.vae.z_dim, size.height / self.factor(), size.width / self.factor()]
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
        // SGLang's scripts say --guidance-scale for it; diffusers takes that for distilled checkpoints, of which there is none.
        let asked = match (request.true_cfg, request.scale) {
            (Some(a), Some(b)) if a != b => {
                let name = self.name();
                return Err(Error::usage(format!(
                    "--true-cfg-scale {a} and --guidance-scale {b}: {name} has one guidance; give one of them"
                )));
            }
            (a, b) => a.or(b),
        };
        // diffusers guides only against a negative prompt that was given; SGLang always does.
        let unasked = request.negative || request.convention == Convention::Sglang;
        let scale = asked.or(unasked.then_some(TRUE_CFG)).unwrap_or(1.0);
        if scale > 1.0 {
            return Ok(Guidance::TokenNorm { scale });
        }
        if request.negative {
            tracing::warn!("--negative-prompt has no effect with a guidance scale of {scale}; it must be more than 1");
        }
        Ok(Guidance::None)
    }

    fn negative_prompt(&self) -> &str {
        " "
    }

    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_plain(&format!("{PREFIX}{prompt}{SUFFIX}"))?;
        let (all, rows) = (ids.len(), PREFIX_TOKENS + self.text_rows);
        if all > rows {
            let kept = self.text_rows;
            notes.push(format!(
                "the prompt and its template have more than {kept} tokens; the last {} are cut",
                all - rows
            ));
        }
        ids.truncate(rows);
        let ids = Array2::from_shape_vec((1, ids.len()), ids).unwrap_or_default().into_dyn();
        let inputs = vec![("ids", Tensor::I64(ids))];
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn states(&self) -> Option<HiddenStates> {
        Some(HiddenStates { hidden: &[-1], pads: Padding::None })
    }

    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning> {
        let wrong =
            || Error::failed("Qwen-Image wants the states of one text encoder, longer than its template's prefix");
        let [Tensor::F32(states)]: [Tensor; 1] = states.try_into().map_err(|_| wrong())? else { return Err(wrong()) };
        if states.ndim() != 3 || states.shape()[1] <= PREFIX_TOKENS {
            return Err(wrong());
        }
        let text = states.slice_each_axis(|axis| match axis.axis.index() {
            1 => ndarray::Slice::from(PREFIX_TOKENS..),
            _ => ndarray::Slice::from(..),
        });
        let text_rows = text.shape()[1];
        Ok(Conditioning { inputs: vec![("text", Tensor::F32(text.to_owned()))], text_rows })
    }

    /// The picture is centred on 0; the text goes on along the diagonal from its edge.
    fn positions(&self, latent: &[usize], text_rows: usize) -> Vec<(&'static str, Tensor)> {
        let centred = |n: usize| (n / 2) as i64 - n as i64..(n / 2) as i64;
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let edge = (rows / 2).max(columns / 2) as i64;
        let text = (0..text_rows as i64).map(|i| [edge + i; 3]);
        let image = centred(rows).flat_map(|r| centred(columns).map(move |c| [0, r, c]));
        rotary_signed(text.chain(image), &self.transformer.axes_dims_rope, THETA)
    }

    fn step(&self, latent: &ArrayD<f32>, sigma: f32, _: f32) -> Vec<(&'static str, Tensor)> {
        let sigma = Tensor::F32(ArrayD::from_elem(IxDyn(&[1]), sigma));
        vec![("latents", Tensor::F32(pack(latent))), ("sigma", sigma)]
    }

    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack(answer, latent)
    }

    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent * Self::per_channel(&self.vae.latents_std) + Self::per_channel(&self.vae.latents_mean)
    }

    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        (latent - Self::per_channel(&self.vae.latents_mean)) / Self::per_channel(&self.vae.latents_std)
    }
}
