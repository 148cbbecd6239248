//! Wan 2.1 text to video, after diffusers 0.42.1 `pipelines/wan/pipeline_wan.py`.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use serde::Deserialize;

use super::interface::{
    CHANNELS, Conditioning, Convention, Defaults, Descriptor, Family, GuidanceRequest, LatentLayout, Overrides,
    Sampling, Size, TextCall, TextConditioning, TransformerIo,
};
use crate::{
    error::{At, Error, Result},
    model::{
        ModelFolder, Tokenizer,
        layout::{check_tokens, rotary, scalar, token_ids},
        repair,
    },
    schedule::{FlowMatch, Guidance, Spacing, first_step_of_video},
    spectral::Spectrum,
    tensor::{DType, Tensor},
};

/// The registry's entry.
pub(super) const FAMILY: Descriptor =
    Descriptor { pipelines: &["WanPipeline"], open: |folder, overrides| Ok(Box::new(Wan::open(folder, overrides)?)) };

/// Text tokens that the transformer takes: default and maximum. Tokens after the prompt are zeros.
const TEXT_TOKENS: usize = 512;
/// θ of the rotary positions, a constant in the reference.
const THETA: f64 = 10_000.0;
/// The larger checkpoint, for which SGLang has other defaults.
const LARGE: &str = "Wan2.1-T2V-14B";
/// SGLang's negative prompt for Wan: that of the Wan repository, in English.
const SGLANG_NEGATIVE: &str = "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, \
    static, overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn \
    hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three \
    legs, many people in the background, walking backwards";

#[derive(Debug, Deserialize)]
struct TransformerConfig {
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    patch_size: [usize; 3],
}

#[derive(Debug, Deserialize)]
struct VaeConfig {
    z_dim: usize,
    dim_mult: Vec<usize>,
    #[serde(default = "downsampled")]
    temperal_downsample: Vec<bool>,
    latents_mean: Vec<f32>,
    latents_std: Vec<f32>,
}

fn downsampled() -> Vec<bool> {
    vec![false, true, true]
}

/// The settings of a Wan checkpoint.
#[derive(Debug)]
struct Wan {
    name: &'static str,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_tokens: usize,
    convention: Convention,
}

impl Wan {
    fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        folder.check_range("z_dim", vae.z_dim, CHANNELS)?;
        folder.check_range("patch_size", transformer.patch_size[1], 1..=64)?;
        folder.check_axes("attention_head_dim", &[transformer.attention_head_dim])?;
        let (root, TransformerConfig { in_channels, patch_size, .. }) = (folder.root().display(), &transformer);
        let (latent, mean, std) = (vae.z_dim, vae.latents_mean.len(), vae.latents_std.len());
        if [*in_channels, mean, std] != [latent; 3] {
            let found = format!("in_channels {in_channels}, {mean} latents_mean, {std} latents_std");
            return Err(Error::failed(format!("{root}: {found}, but z_dim {latent}; all four must be equal")));
        }
        let levels = vae.dim_mult.len();
        if !(1..=8).contains(&levels) || vae.temperal_downsample.len() >= levels {
            let doubled = vae.temperal_downsample.len();
            let wanted = "Wan has 1 to 8 levels and a temperal_downsample for each but the last";
            return Err(Error::failed(format!("{root}: {levels} dim_mult, {doubled} temperal_downsample; {wanted}")));
        }
        if patch_size[0] != 1 || patch_size[1] == 0 || patch_size[1] != patch_size[2] {
            return Err(Error::failed(format!(
                "{root}: patch_size {patch_size:?}; Wan has one frame, p rows, p columns"
            )));
        }
        let name = match transformer.num_attention_heads * transformer.attention_head_dim {
            1536 => "Wan2.1-T2V-1.3B",
            5120 => LARGE,
            _ => "Wan2.1-T2V",
        };
        let tokens = Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?;
        let mut schedule = FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?;
        if overrides.convention == Convention::Sglang {
            schedule.spacing = Spacing::WanTwice;
            schedule.shift = if name == LARGE { 5.0 } else { 3.0 };
        }
        if let Some(shift) = overrides.flow_shift {
            schedule = schedule.with_shift(shift).at("--flow-shift")?;
        }
        let text_tokens = overrides.text_tokens(name, 1..=TEXT_TOKENS, TEXT_TOKENS)?;
        Ok(Self { name, transformer, vae, tokens, schedule, text_tokens, convention: overrides.convention })
    }

    /// Frames per latent frame, except for the first.
    fn frames_per_latent(&self) -> usize {
        1 << self.vae.temperal_downsample.iter().filter(|&&d| d).count()
    }

    /// Applies `change` to every value, with the mean and the standard deviation of its channel.
    fn by_channel(&self, latent: &ArrayD<f32>, change: impl Fn(f32, f32, f32) -> f32) -> ArrayD<f32> {
        let mut latent = latent.clone();
        for (c, mut plane) in latent.axis_iter_mut(Axis(1)).enumerate() {
            let (mean, std) = (self.vae.latents_mean[c], self.vae.latents_std[c]);
            plane.mapv_inplace(|v| change(v, mean, std));
        }
        latent
    }
}

/// A prompt as the reference pipeline cleans it before tokenizing: repaired, HTML references decoded twice, white space collapsed.
fn clean(prompt: &str) -> String {
    let decoded = repair::unescape(&repair::unescape(&repair::repair(prompt)));
    decoded.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl TextConditioning for Wan {
    fn negative_prompt(&self) -> &str {
        if self.convention == Convention::Sglang { SGLANG_NEGATIVE } else { "" }
    }

    /// 0: text enters by cross-attention.
    fn text_tokens(&self) -> usize {
        0
    }

    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_to(&clean(prompt), self.text_tokens, 0)?;
        warnings.extend(ids.warning("UMT5"));
        // The encoder runs without padding: nothing attends to it, and `conditioning` pads with zeros.
        ids.ids.truncate(ids.used);
        let inputs = vec![("ids", token_ids(ids.ids))];
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning> {
        let Some(Tensor::F32(hidden)) = outputs.into_iter().next() else {
            return Err(Error::failed("Wan needs the hidden states of UMT5"));
        };
        let (used, hidden_size) = (hidden.shape()[1], hidden.shape()[2]);
        let mut text = ArrayD::zeros(IxDyn(&[1, self.text_tokens, hidden_size]));
        text.slice_axis_mut(Axis(1), Slice::from(..used)).assign(&hidden);
        Ok(Conditioning { inputs: vec![("text", Tensor::F32(text))], text_tokens: 0 })
    }
}

impl LatentLayout for Wan {
    fn latent_channels(&self) -> usize {
        self.vae.z_dim
    }

    fn vae_scale_factor(&self) -> usize {
        1 << (self.vae.dim_mult.len() - 1)
    }

    fn temporal_factor(&self) -> Option<usize> {
        Some(self.frames_per_latent())
    }

    fn patch_size(&self) -> usize {
        self.transformer.patch_size[1]
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::WAN
    }

    fn denormalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        self.by_channel(latent, |v, mean, std| v * std + mean)
    }

    fn normalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        self.by_channel(latent, |v, mean, std| (v - mean) / std)
    }
}

impl Sampling for Wan {
    fn schedule(&self) -> &FlowMatch {
        &self.schedule
    }

    /// Always f32: the reference keeps latents in f32 whatever type the network computes in.
    fn noise_dtype(&self, _requested: DType, _from_input: bool) -> DType {
        DType::F32
    }

    /// That of diffusers' `WanVideoToVideoPipeline`.
    fn default_strength(&self) -> f64 {
        0.8
    }

    fn first_step(&self, steps: usize, strength: f64) -> Result<usize> {
        first_step_of_video(steps, strength)
    }

    fn sigmas(&self, _size: Size, steps: usize) -> Result<Vec<f32>> {
        self.schedule.sigmas(steps, None)
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let name = self.name;
        if let Some(scale) = request.true_cfg {
            return Err(Error::usage(format!("--true-cfg-scale {scale}: {name} is guided by --guidance-scale")));
        }
        let default = if self.convention == Convention::Sglang && name != LARGE { 3.0 } else { 5.0 };
        let scale = request.scale.unwrap_or(default);
        Ok(if scale > 1.0 { Guidance::Cfg { scale, embedded: None } } else { Guidance::None })
    }
}

impl TransformerIo for Wan {
    fn positions(&self, latent: &[usize], _text_tokens: usize) -> Vec<(&'static str, Tensor)> {
        let (frames, rows, columns) = (latent[2], latent[3] / self.patch_size(), latent[4] / self.patch_size());
        let row = move |f: usize| (0..rows).flat_map(move |r| (0..columns).map(move |c| [f, r, c]));
        let head_dim = self.transformer.attention_head_dim;
        let side = 2 * (head_dim / 6);
        rotary((0..frames).flat_map(row), &[head_dim - 2 * side, side, side], THETA)
    }

    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, _: Option<f32>) -> Vec<(&'static str, Tensor)> {
        let timestep = scalar(self.schedule.timestep_at(sigma));
        vec![("latents", Tensor::F32(patches(latent, self.patch_size()))), ("timestep", timestep)]
    }

    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpatched(output, latent, self.patch_size())
    }
}

impl Family for Wan {
    fn name(&self) -> &str {
        self.name
    }

    fn defaults(&self) -> Defaults {
        let large = self.convention == Convention::Sglang && self.name == LARGE;
        let (height, width) = if large { (720, 1280) } else { (480, 832) };
        Defaults { size: Size { height, width, frames: 81 }, steps: 50, fps: Some(16.0) }
    }
}

/// [1, c, t, h, w] → [1, t·h/p·w/p, c·p·p]: patches as tokens, features in the order channel, row, column.
fn patches(x: &ArrayD<f32>, p: usize) -> ArrayD<f32> {
    let [c, t, h, w] = [1, 2, 3, 4].map(|a| x.shape()[a]);
    let split = x.to_shape((c, t, h / p, p, w / p, p)).map(|v| v.permuted_axes([1, 2, 4, 0, 3, 5]).to_owned());
    let tokens = split.map(|v| v.as_standard_layout().into_owned().into_dyn()).unwrap_or_default();
    tokens.into_shape_with_order(IxDyn(&[1, t * (h / p) * (w / p), c * p * p])).unwrap_or_default()
}

/// The inverse, for an output whose features are in the order row, column, channel.
fn unpatched(tokens: &ArrayD<f32>, latent: &[usize], p: usize) -> Result<ArrayD<f32>> {
    let [c, t, h, w] = [1, 2, 3, 4].map(|a| latent[a]);
    check_tokens(tokens, [1, t * (h / p) * (w / p), c * p * p])?;
    let wrong = |e: ndarray::ShapeError| Error::failed(format!("the transformer's output: {e}"));
    let split = tokens.to_shape((t, h / p, w / p, p, p, c)).map_err(wrong)?;
    let spatial = split.permuted_axes([5, 0, 1, 3, 2, 4]).as_standard_layout().into_owned().into_dyn();
    spatial.into_shape_with_order(IxDyn(latent)).map_err(wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

    use super::clean;

    #[derive(Deserialize)]
    struct Golden {
        rows: Vec<Row>,
    }

    #[derive(Deserialize)]
    struct Row {
        name: String,
        prompt: String,
        clean: String,
    }

    /// The values are those of diffusers with ftfy (`scripts/reference/prompts.py`).
    #[test]
    fn prompts_are_cleaned_as_in_the_pipeline() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/wan/prompts.json");
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let wrong = |row: &Row| {
            let got = clean(&row.prompt);
            (got != row.clean).then(|| format!("{}: {:?}: expected {:?}, got {got:?}", row.name, row.prompt, row.clean))
        };
        let failures: Vec<String> = golden.rows.iter().filter_map(wrong).collect();
        assert!(golden.rows.len() > 150 && failures.is_empty(), "{}", failures.join("\n"));
    }
}
