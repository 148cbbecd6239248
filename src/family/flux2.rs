//! FLUX.2: dev with embedded guidance, klein distilled to few steps, klein's base with classifier-free guidance; as diffusers
//! 0.42.1 `pipelines/flux2/pipeline_flux2.py` and `pipeline_flux2_klein.py` run them.

use ndarray::{Array2, ArrayD, Axis, IxDyn};
use serde::Deserialize;

use super::{Conditioning, Convention, Defaults, Family, GuidanceRequest, Size, TextCall, check_rows};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{rotary, row_major, spatial},
    },
    schedule::{empirical_mu, guidance::Guidance, sigmas::FlowMatch, solver::Solver},
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// Rows of text that the DiT sees, padding among them; fewer may be asked for.
const TEXT_ROWS: usize = 512;
/// What dev's language model was told before every prompt (`pipelines/flux2/system_messages.py`).
const SYSTEM: &str = "You are an AI that reasons about image descriptions. You give structured responses focusing on object \
                      relationships, object\nattribution and actions without speculation.";

#[derive(Debug, Deserialize)]
struct TransformerConfig {
    in_channels: usize,
    #[serde(default = "yes")]
    guidance_embeds: bool,
    #[serde(default = "axes")]
    axes_dims_rope: [usize; 4],
    #[serde(default = "theta")]
    rope_theta: f64,
}

fn yes() -> bool {
    true
}

fn axes() -> [usize; 4] {
    [32; 4]
}

fn theta() -> f64 {
    2000.0
}

#[derive(Debug, Deserialize)]
struct VaeConfig {
    latent_channels: usize,
    block_out_channels: Vec<usize>,
    #[serde(default = "patch")]
    patch_size: [usize; 2],
}

fn patch() -> [usize; 2] {
    [2, 2]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Guidance is an input; Mistral reads the prompt.
    Dev,
    /// No guidance; Qwen3 reads the prompt.
    Distilled,
    /// klein before distillation: two calls a step.
    Base,
}

/// One FLUX.2 checkpoint's settings.
#[derive(Debug)]
pub struct Flux2 {
    variant: Variant,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    pad: i64,
    schedule: FlowMatch,
    text_rows: usize,
}

impl Flux2 {
    /// Reads configs and the tokenizer; no weights.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        let root = folder.root().display();
        if vae.patch_size != [2, 2] || transformer.in_channels != 4 * vae.latent_channels {
            let (a, b, c) = (transformer.in_channels, vae.latent_channels, vae.patch_size);
            let wanted = "the transformer takes 2×2 patches of the VAE's latent";
            return Err(Error::failed(format!(
                "{root}: in_channels {a} against latent_channels {b}, patch_size {c:?}; {wanted}"
            )));
        }
        let distilled = folder.index.get("is_distilled").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let variant = match (folder.class.as_str(), distilled) {
            ("Flux2Pipeline", _) => Variant::Dev,
            (_, true) => Variant::Distilled,
            (_, false) => Variant::Base,
        };
        if transformer.guidance_embeds != (variant == Variant::Dev) {
            let (class, found) = (&folder.class, transformer.guidance_embeds);
            return Err(Error::failed(format!(
                "{root}: {class} with guidance_embeds {found}; only dev embeds guidance"
            )));
        }
        let tokens = Tokenizer::open(&folder.path("tokenizer")?, folder.class_of("tokenizer")?).at("tokenizer")?;
        let pad = if variant == Variant::Dev { "<pad>" } else { "<|endoftext|>" };
        let missing = || Error::failed(format!("{root}: the tokenizer has no {pad}; the checkpoint is incomplete"));
        Ok(Self {
            variant,
            transformer,
            vae,
            pad: tokens.id(pad).ok_or_else(missing)?,
            tokens,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_rows: TEXT_ROWS,
        })
    }

    /// The prompt in the form of a chat that the encoder was trained on.
    fn chat(&self, prompt: &str) -> String {
        match self.variant {
            Variant::Dev => {
                let prompt = prompt.replace("[IMG]", "");
                format!("<s>[SYSTEM_PROMPT]{SYSTEM}[/SYSTEM_PROMPT][INST]{prompt}[/INST]")
            }
            _ => format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        }
    }
}

impl Family for Flux2 {
    fn name(&self) -> &str {
        match self.variant {
            Variant::Dev => "FLUX.2-dev",
            Variant::Distilled => "FLUX.2-klein",
            Variant::Base => "FLUX.2-klein-base",
        }
    }

    fn defaults(&self, _: Convention) -> Defaults {
        let (steps, guidance) = if self.variant == Variant::Distilled { (4, 1.0) } else { (50, 4.0) };
        let size = Size { height: 1024, width: 1024, frames: 1 };
        Defaults { size, steps, guidance, fps: None }
    }

    fn text_rows(&self) -> usize {
        self.text_rows
    }

    fn set_text_rows(&mut self, rows: usize) -> Result<()> {
        check_rows(self.name(), rows, 2..=TEXT_ROWS)?;
        self.text_rows = rows;
        Ok(())
    }

    fn factor(&self) -> usize {
        self.vae.patch_size[0] << (self.vae.block_out_channels.len() - 1)
    }

    fn patch(&self) -> usize {
        1
    }

    fn latent_shape(&self, size: Size) -> Vec<usize> {
        vec![1, self.transformer.in_channels, size.height / self.factor(), size.width / self.factor()]
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::FLUX
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = empirical_mu(self.tokens(&self.latent_shape(size)), steps);
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
        let scale = request.scale.unwrap_or(self.defaults(Convention::Diffusers).guidance);
        let guidance = match self.variant {
            Variant::Dev => Guidance::Embedded(scale),
            Variant::Distilled => {
                if scale > 1.0 {
                    tracing::warn!("--guidance-scale {scale} has no effect: {name} is distilled");
                }
                Guidance::None
            }
            Variant::Base if scale > 1.0 => Guidance::Cfg { scale },
            Variant::Base => Guidance::None,
        };
        if request.negative && !guidance.needs_negative(1.0) {
            tracing::warn!("--negative-prompt has no effect: {name} calls its transformer with the prompt alone");
        }
        Ok(guidance)
    }

    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_plain(&self.chat(prompt))?;
        let (all, rows) = (ids.len(), self.text_rows);
        if all > rows {
            let cut = all - rows;
            notes.push(format!(
                "the prompt and its template have {all} tokens, of which {rows} are read; {cut} are cut"
            ));
        }
        ids.truncate(rows);
        let row =
            |ids: Vec<i64>| Tensor::I64(Array2::from_shape_vec((1, ids.len()), ids).unwrap_or_default().into_dyn());
        let inputs = match self.variant {
            Variant::Dev => {
                ids.insert(0, self.pad);
                vec![("ids", row(ids))]
            }
            // One pad at least, as the network wants; the text does not see it.
            _ => {
                let pads = vec![self.pad; (rows - ids.len()).max(1)];
                vec![("ids", row(ids)), ("pads", row(pads))]
            }
        };
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn states(&self) -> Option<HiddenStates> {
        Some(match self.variant {
            Variant::Dev => HiddenStates { hidden: &[10, 20, 30], pads: Padding::Before },
            _ => HiddenStates { hidden: &[9, 18, 27], pads: Padding::After },
        })
    }

    /// All rows enter the DiT, padding among them: Mistral's on the left, where every row is the first, Qwen's on the right.
    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning> {
        let wrong = || Error::failed("FLUX.2 wants the states of one text encoder");
        let [Tensor::F32(states)]: [Tensor; 1] = states.try_into().map_err(|_| wrong())? else { return Err(wrong()) };
        let (rows, found) = (self.text_rows, states.shape().get(1).copied().unwrap_or(0));
        let from = |row: usize| match self.variant {
            Variant::Dev => (row + found).saturating_sub(rows),
            _ => row,
        };
        let places: Vec<usize> = (0..rows).map(from).collect();
        if states.ndim() != 3 || places.iter().any(|&p| p >= found) {
            return Err(wrong());
        }
        let text = Tensor::F32(states.select(Axis(1), &places));
        Ok(Conditioning { inputs: vec![("text", text)], text_rows: rows })
    }

    fn positions(&self, latent: &[usize], text_rows: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2], latent[3]);
        let text = (0..text_rows).map(|i| [0, 0, 0, i]);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [0, r, c, 0]));
        rotary(text.chain(image), &self.transformer.axes_dims_rope, self.transformer.rope_theta)
    }

    fn step(&self, latent: &ArrayD<f32>, sigma: f32, scale: f32) -> Vec<(&'static str, Tensor)> {
        let one = |v: f32| Tensor::F32(ArrayD::from_elem(IxDyn(&[1]), v));
        let mut inputs = vec![("latents", Tensor::F32(row_major(latent))), ("sigma", one(sigma))];
        if self.variant == Variant::Dev {
            inputs.push(("guidance", one(scale)));
        }
        inputs
    }

    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        spatial(answer, latent)
    }

    /// The VAE's graph knows its own statistics.
    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent.clone()
    }

    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent.clone()
    }
}
