//! Wan 2.1 text to video, as diffusers 0.42.1 `pipelines/wan/pipeline_wan.py` runs it.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use serde::Deserialize;

use super::{Conditioning, Convention, Defaults, Family, GuidanceRequest, Size, TextCall, check_rows};
use crate::{
    error::{At, Error, Result},
    model::{ModelFolder, Tokenizer, layout::rotary},
    schedule::{
        first_step_of_video,
        guidance::Guidance,
        sigmas::{FlowMatch, Spacing},
        solver::Solver,
    },
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// Rows of text that the network was trained on; those past the prompt are zeros.
const TEXT_ROWS: usize = 512;
/// θ of the rotary positions; a constant in the reference.
const THETA: f64 = 10_000.0;
/// SGLang's negative prompt for Wan: Wan's own, in English.
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

/// One Wan checkpoint's settings.
#[derive(Debug)]
pub struct Wan {
    name: &'static str,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_rows: usize,
    convention: Convention,
}

impl Wan {
    /// Reads configs and the tokenizer; no weights.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        let (root, TransformerConfig { in_channels, patch_size, .. }) = (folder.root().display(), &transformer);
        let (latent, mean, std) = (vae.z_dim, vae.latents_mean.len(), vae.latents_std.len());
        if [*in_channels, mean, std] != [latent; 3] {
            let found = format!("in_channels {in_channels}, {mean} latents_mean, {std} latents_std");
            return Err(Error::failed(format!("{root}: {found} against z_dim {latent}; all four are one number")));
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
            5120 => "Wan2.1-T2V-14B",
            _ => "Wan2.1-T2V",
        };
        let tokens = Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?;
        let schedule = FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?;
        let convention = Convention::Diffusers;
        Ok(Self { name, transformer, vae, tokens, schedule, text_rows: TEXT_ROWS, convention })
    }

    fn large(&self) -> bool {
        self.name == "Wan2.1-T2V-14B"
    }

    /// Pictures per latent frame, from the second on.
    fn times(&self) -> usize {
        1 << self.vae.temperal_downsample.iter().filter(|&&d| d).count()
    }

    /// `change` of every value and its channel's mean and deviation.
    fn by_channel(&self, latent: &ArrayD<f32>, change: impl Fn(f32, f32, f32) -> f32) -> ArrayD<f32> {
        let mut latent = latent.clone();
        for (c, mut plane) in latent.axis_iter_mut(Axis(1)).enumerate() {
            let (mean, std) = (self.vae.latents_mean[c], self.vae.latents_std[c]);
            plane.mapv_inplace(|v| change(v, mean, std));
        }
        latent
    }
}

/// What the reference makes of a prompt before it is cut into tokens: quotes straight, HTML entities resolved twice, runs of white
/// space single. Of ftfy's repairs only that of quotes is done; widths and ligatures are the tokenizer's own, and text that was
/// decoded wrongly is taken as it stands.
pub fn clean(prompt: &str) -> String {
    let straight = prompt.chars().map(|c| match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        c => c,
    });
    let once: String = straight.collect();
    let once = html_escape::decode_html_entities(&once);
    let twice = html_escape::decode_html_entities(&once);
    twice.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Family for Wan {
    fn name(&self) -> &str {
        self.name
    }

    fn defaults(&self, convention: Convention) -> Defaults {
        let sglang = convention == Convention::Sglang;
        let (height, width) = if sglang && self.large() { (720, 1280) } else { (480, 832) };
        let guidance = if sglang && !self.large() { 3.0 } else { 5.0 };
        Defaults { size: Size { height, width, frames: 81 }, steps: 50, guidance, fps: Some(16.0) }
    }

    fn set_convention(&mut self, convention: Convention) {
        self.convention = convention;
        if convention == Convention::Sglang {
            self.schedule.spacing = Spacing::WanTwice;
            self.schedule.shift = if self.large() { 5.0 } else { 3.0 };
        }
    }

    fn set_flow_shift(&mut self, shift: f64) -> Result<()> {
        self.schedule = self.schedule.clone().with_shift(shift).at("--flow-shift")?;
        Ok(())
    }

    fn negative_prompt(&self) -> &str {
        if self.convention == Convention::Sglang { SGLANG_NEGATIVE } else { "" }
    }

    /// None: the text is attended beside the sequence.
    fn text_rows(&self) -> usize {
        0
    }

    fn set_text_rows(&mut self, rows: usize) -> Result<()> {
        check_rows(self.name(), rows, 1..=TEXT_ROWS)?;
        self.text_rows = rows;
        Ok(())
    }

    fn factor(&self) -> usize {
        1 << (self.vae.dim_mult.len() - 1)
    }

    fn patch(&self) -> usize {
        self.transformer.patch_size[1]
    }

    fn is_video(&self) -> bool {
        true
    }

    fn check_frames(&self, frames: usize) -> Result<()> {
        let times = self.times();
        if frames > 0 && (frames - 1).is_multiple_of(times) {
            return Ok(());
        }
        let below = frames.saturating_sub(1) / times * times + 1;
        let (name, above) = (self.name, below + times);
        Err(Error::usage(format!(
            "--num-frames {frames}: {name} needs a multiple of {times} and one; {below} or {above}"
        )))
    }

    fn latent_shape(&self, size: Size) -> Vec<usize> {
        let frames = size.frames.saturating_sub(1) / self.times() + 1;
        vec![1, self.vae.z_dim, frames, size.height / self.factor(), size.width / self.factor()]
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::WAN
    }

    /// Latents live in f32 whatever the network computes in.
    fn noise(&self, _asked: DType, _start: bool) -> DType {
        DType::F32
    }

    /// That of diffusers' `WanVideoToVideoPipeline`.
    fn strength(&self) -> f64 {
        0.8
    }

    fn first_step(&self, steps: usize, strength: f64) -> Result<usize> {
        first_step_of_video(steps, strength)
    }

    fn sigmas(&self, _size: Size, steps: usize) -> Result<Vec<f32>> {
        self.schedule.sigmas(steps, None)
    }

    fn solver(&self, latents: DType) -> Box<dyn Solver + Send> {
        self.schedule.solver(latents)
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        if let Some(scale) = request.true_cfg {
            return Err(Error::usage(format!("--true-cfg-scale {scale}: {} has --guidance-scale for it", self.name)));
        }
        let scale = request.scale.unwrap_or(self.defaults(self.convention).guidance);
        Ok(if scale > 1.0 { Guidance::Cfg { scale } } else { Guidance::None })
    }

    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_to(&clean(prompt), self.text_rows, 0)?;
        if ids.cut > 0 {
            let (kept, all) = (ids.used, ids.used + ids.cut);
            notes.push(format!(
                "the prompt has {all} tokens for UMT5, which reads {kept}; the last {} are cut",
                ids.cut
            ));
        }
        // Padding is neither attended nor kept, so the encoder need not see it.
        ids.ids.truncate(ids.used);
        let given = ArrayD::from_shape_vec(IxDyn(&[1, ids.used]), ids.ids).unwrap_or_default();
        let inputs = vec![("ids", Tensor::I64(given))];
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning> {
        let Some(Tensor::F32(states)) = states.into_iter().next() else {
            return Err(Error::failed("Wan wants the states of UMT5"));
        };
        let (used, width) = (states.shape()[1], states.shape()[2]);
        let mut text = ArrayD::zeros(IxDyn(&[1, self.text_rows, width]));
        text.slice_axis_mut(Axis(1), Slice::from(..used)).assign(&states);
        Ok(Conditioning { inputs: vec![("text", Tensor::F32(text))], text_rows: 0 })
    }

    fn positions(&self, latent: &[usize], _text_rows: usize) -> Vec<(&'static str, Tensor)> {
        let (frames, rows, columns) = (latent[2], latent[3] / self.patch(), latent[4] / self.patch());
        let row = move |f: usize| (0..rows).flat_map(move |r| (0..columns).map(move |c| [f, r, c]));
        let head = self.transformer.attention_head_dim;
        let side = 2 * (head / 6);
        rotary((0..frames).flat_map(row), &[head - 2 * side, side, side], THETA)
    }

    fn step(&self, latent: &ArrayD<f32>, sigma: f32, _scale: f32) -> Vec<(&'static str, Tensor)> {
        let time = ArrayD::from_elem(IxDyn(&[1]), self.schedule.timestep_at(sigma));
        vec![("latents", Tensor::F32(patches(latent, self.patch()))), ("timestep", Tensor::F32(time))]
    }

    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpatched(answer, latent, self.patch())
    }

    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        self.by_channel(latent, |v, mean, std| v * std + mean)
    }

    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        self.by_channel(latent, |v, mean, std| (v - mean) / std)
    }
}

/// [1, c, t, h, w] → [1, t·h/p·w/p, c·p·p]: patches as tokens, features in the order channel, row, column.
fn patches(x: &ArrayD<f32>, p: usize) -> ArrayD<f32> {
    let [c, t, h, w] = [1, 2, 3, 4].map(|a| x.shape()[a]);
    let split = x.to_shape((c, t, h / p, p, w / p, p)).map(|v| v.permuted_axes([1, 2, 4, 0, 3, 5]).to_owned());
    let tokens = split.map(|v| v.as_standard_layout().into_owned().into_dyn()).unwrap_or_default();
    tokens.into_shape_with_order(IxDyn(&[1, t * (h / p) * (w / p), c * p * p])).unwrap_or_default()
}

/// The inverse for an answer whose features are in the order row, column, channel.
fn unpatched(tokens: &ArrayD<f32>, latent: &[usize], p: usize) -> Result<ArrayD<f32>> {
    let [c, t, h, w] = [1, 2, 3, 4].map(|a| latent[a]);
    let wanted = [1, t * (h / p) * (w / p), c * p * p];
    if tokens.shape() != wanted {
        let found = tokens.shape();
        return Err(Error::failed(format!("the transformer answered {found:?} where {wanted:?} was wanted")));
    }
    let wrong = |e: ndarray::ShapeError| Error::failed(format!("the transformer's answer: {e}"));
    let split = tokens.to_shape((t, h / p, w / p, p, p, c)).map_err(wrong)?;
    let spatial = split.permuted_axes([5, 0, 1, 3, 2, 4]).as_standard_layout().into_owned().into_dyn();
    spatial.into_shape_with_order(IxDyn(latent)).map_err(wrong)
}
