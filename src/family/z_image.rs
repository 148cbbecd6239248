//! Z-Image and Z-Image-Turbo, as diffusers 0.42.1 `pipelines/z_image/pipeline_z_image.py` runs them.

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use super::{Conditioning, Convention, Defaults, Family, GuidanceRequest, Size, TextCall, check_rows};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{pack_channels_last, rotary, unpack_channels_last},
    },
    schedule::{
        guidance::Guidance,
        sigmas::{FlowMatch, Spacing},
        solver::Solver,
    },
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// Tokens of the prompt and its template that are read; fewer may be asked for.
const TEXT_ROWS: usize = 512;
/// Picture and caption each fill a multiple of this many rows with pad tokens.
const ROWS: usize = 32;
/// The static shift that tells Turbo's scheduler from Z-Image's, which has 6.
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

/// One Z-Image checkpoint's settings.
#[derive(Debug)]
pub struct ZImage {
    turbo: bool,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    schedule: FlowMatch,
    text_rows: usize,
}

impl ZImage {
    /// Reads configs and the tokenizer; no weights.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        if transformer.in_channels != vae.latent_channels {
            let (a, b, root) = (transformer.in_channels, vae.latent_channels, folder.root().display());
            let wanted = "the transformer takes the VAE's latent";
            return Err(Error::failed(format!("{root}: in_channels {a} against latent_channels {b}; {wanted}")));
        }
        let mut schedule = FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?;
        schedule.spacing = Spacing::StepsTorch;
        Ok(Self {
            turbo: schedule.shift <= TURBO_SHIFT,
            transformer,
            vae,
            tokens: Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?,
            schedule,
            text_rows: TEXT_ROWS,
        })
    }
}

/// Tables of the rotary positions under the names of one of the two streams.
fn tables(
    names: [&'static str; 2],
    ids: impl Iterator<Item = [usize; 3]>,
    config: &TransformerConfig,
) -> Vec<(&'static str, Tensor)> {
    let tables = rotary(ids, &config.axes_dims, config.rope_theta);
    names.into_iter().zip(tables).map(|(name, (_, table))| (name, table)).collect()
}

impl Family for ZImage {
    fn name(&self) -> &str {
        if self.turbo { "Z-Image-Turbo" } else { "Z-Image" }
    }

    /// Turbo's card counts 9 steps of which its scheduler of the time ran 8 and a no-op; both projects run 9 today.
    fn defaults(&self, _: Convention) -> Defaults {
        let (steps, guidance) = if self.turbo { (9, 0.0) } else { (50, 5.0) };
        let size = Size { height: 1024, width: 1024, frames: 1 };
        Defaults { size, steps, guidance, fps: None }
    }

    fn text_rows(&self) -> usize {
        self.text_rows
    }

    fn set_text_rows(&mut self, rows: usize) -> Result<()> {
        check_rows(self.name(), rows, 1..=TEXT_ROWS)?;
        self.text_rows = rows;
        Ok(())
    }

    fn set_flow_shift(&mut self, shift: f64) -> Result<()> {
        self.schedule = self.schedule.clone().with_shift(shift)?;
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

    /// f32 in the pipeline of prompts, the type of the text's states in that of pictures.
    fn noise(&self, asked: DType, start: bool) -> DType {
        if start { asked } else { DType::F32 }
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = self.schedule.linear_mu(self.tokens(&self.latent_shape(size)));
        self.schedule.sigmas(steps, Some(mu))
    }

    fn solver(&self, latents: DType) -> Box<dyn Solver + Send> {
        self.schedule.solver(latents)
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let name = self.name();
        if let Some(scale) = request.true_cfg {
            return Err(Error::usage(format!("--true-cfg-scale {scale}: {name} is guided by --guidance-scale")));
        }
        let scale = request.scale.unwrap_or(self.defaults(request.convention).guidance);
        if scale <= 0.0 {
            if request.negative {
                tracing::warn!(
                    "--negative-prompt has no effect: at guidance scale {scale} {name} sees the prompt alone"
                );
            }
            return Ok(Guidance::None);
        }
        let usual = if request.convention == Convention::Sglang { Some(1.0) } else { None };
        let normalization = request.normalization.or(usual).filter(|&c| c > 0.0);
        Ok(Guidance::ZImage { scale, truncation: request.truncation.unwrap_or(1.0), normalization })
    }

    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let text = format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n");
        let mut ids = self.tokens.encode_plain(&text)?;
        let (all, rows) = (ids.len(), self.text_rows);
        if all > rows {
            let cut = all - rows;
            notes.push(format!(
                "the prompt and its template have {all} tokens and {rows} are read; the last {cut} are cut"
            ));
        }
        ids.truncate(rows);
        let ids = Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[1, ids.len()]), ids).unwrap_or_default());
        Ok(vec![TextCall { component: "text_encoder", inputs: vec![("ids", ids)], output: "states" }])
    }

    fn states(&self) -> Option<HiddenStates> {
        Some(HiddenStates { hidden: &[-2], pads: Padding::None })
    }

    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning> {
        let [text]: [Tensor; 1] =
            states.try_into().map_err(|_| Error::failed("Z-Image wants the answer of one text encoder"))?;
        let text_rows = text.shape()[1];
        Ok(Conditioning { inputs: vec![("text", text)], text_rows })
    }

    /// The caption's rows are numbered from 1, its pads among them; the picture stands after them, its pads at 0.
    fn positions(&self, latent: &[usize], text_rows: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2] / 2, latent[3] / 2);
        let caption = text_rows.next_multiple_of(ROWS);
        let pads = (rows * columns).next_multiple_of(ROWS) - rows * columns;
        let text = (0..caption).map(|i| [i + 1, 0, 0]);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [caption + 1, r, c]));
        let image = image.chain(std::iter::repeat_n([0; 3], pads));
        let mut all = tables(["rope.image.cos", "rope.image.sin"], image, &self.transformer);
        all.extend(tables(["rope.text.cos", "rope.text.sin"], text, &self.transformer));
        all
    }

    fn step(&self, latent: &ArrayD<f32>, sigma: f32, _: f32) -> Vec<(&'static str, Tensor)> {
        let sigma = Tensor::F32(ArrayD::from_elem(IxDyn(&[1]), sigma));
        vec![("latents", Tensor::F32(pack_channels_last(latent))), ("sigma", sigma)]
    }

    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        unpack_channels_last(answer, latent)
    }

    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent / self.vae.scaling_factor + self.vae.shift_factor
    }

    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        (latent - self.vae.shift_factor) * self.vae.scaling_factor
    }
}
