//! FLUX.2: dev (embedded guidance), klein (distilled to few steps), klein-base (classifier-free guidance), after diffusers
//! 0.42.1 `pipelines/flux2/pipeline_flux2.py` and `pipeline_flux2_klein.py`.

use ndarray::{ArrayD, Axis};
use serde::Deserialize;

use super::interface::{
    CHANNELS, Conditioning, Defaults, Descriptor, Family, GuidanceRequest, LEVELS, LatentLayout, Overrides, Sampling,
    Size, TextCall, TextConditioning, TransformerIo,
};
use crate::{
    error::{At, Error, Result},
    model::{
        HiddenStates, ModelFolder, Padding, Tokenizer,
        layout::{rotary, row_major, scalar, spatial, token_ids},
    },
    schedule::{FlowMatch, Guidance, empirical_mu},
    spectral::Spectrum,
    tensor::Tensor,
};

/// The registry's entry.
pub(super) const FAMILY: Descriptor = Descriptor {
    pipelines: &["Flux2KleinPipeline", "Flux2Pipeline"],
    open: |folder, overrides| Ok(Box::new(Flux2::open(folder, overrides)?)),
};

/// Text tokens that the transformer takes, padding included: default and maximum.
const TEXT_TOKENS: usize = 512;
/// The default guidance scale.
const GUIDANCE: f32 = 4.0;
/// dev's system message (`pipelines/flux2/system_messages.py`).
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
    /// The guidance scale is an input of the transformer. The text encoder is Mistral.
    Dev,
    /// klein: no guidance. The text encoder is Qwen3.
    Distilled,
    /// klein before distillation: classifier-free guidance.
    Base,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "FLUX.2-dev",
            Self::Distilled => "FLUX.2-klein",
            Self::Base => "FLUX.2-klein-base",
        }
    }
}

/// The settings of a FLUX.2 checkpoint.
#[derive(Debug)]
struct Flux2 {
    variant: Variant,
    transformer: TransformerConfig,
    vae: VaeConfig,
    tokens: Tokenizer,
    pad: i64,
    schedule: FlowMatch,
    text_tokens: usize,
}

impl Flux2 {
    fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Self> {
        let transformer: TransformerConfig = folder.config("transformer")?;
        let vae: VaeConfig = folder.config("vae")?;
        folder.check_range("latent_channels", vae.latent_channels, CHANNELS)?;
        folder.check_range("the number of block_out_channels", vae.block_out_channels.len(), LEVELS)?;
        folder.check_axes("axes_dims_rope", &transformer.axes_dims_rope)?;
        let root = folder.root().display();
        if vae.patch_size != [2, 2] || transformer.in_channels != 4 * vae.latent_channels {
            let (a, b, c) = (transformer.in_channels, vae.latent_channels, vae.patch_size);
            let wanted = "the transformer takes 2×2 patches of the VAE's latent";
            return Err(Error::failed(format!(
                "{root}: in_channels {a}, but latent_channels {b}, patch_size {c:?}; {wanted}"
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
        overrides.no_flow_shift(variant.name())?;
        let missing = || Error::failed(format!("{root}: the tokenizer has no {pad}; the checkpoint is incomplete"));
        Ok(Self {
            variant,
            transformer,
            vae,
            pad: tokens.id(pad).ok_or_else(missing)?,
            tokens,
            schedule: FlowMatch::read(&folder.path("scheduler")?.join("scheduler_config.json"))?,
            text_tokens: overrides.text_tokens(variant.name(), 2..=TEXT_TOKENS, TEXT_TOKENS)?,
        })
    }

    /// The prompt in the text encoder's chat template.
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

impl TextConditioning for Flux2 {
    fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>> {
        let mut ids = self.tokens.encode_plain(&self.chat(prompt))?;
        let (all, most) = (ids.len(), self.text_tokens);
        if all > most {
            let (cut, name) = (all - most, self.name());
            warnings.push(format!(
                "the prompt and its template have {all} tokens, and {name} reads {most}; the last {cut} are cut"
            ));
        }
        ids.truncate(most);
        let inputs = match self.variant {
            Variant::Dev => {
                ids.insert(0, self.pad);
                vec![("ids", token_ids(ids))]
            }
            // The network needs at least one padding token. The text does not attend to it.
            _ => {
                let pads = vec![self.pad; (most - ids.len()).max(1)];
                vec![("ids", token_ids(ids)), ("pads", token_ids(pads))]
            }
        };
        Ok(vec![TextCall { component: "text_encoder", inputs, output: "states" }])
    }

    fn hidden_states(&self) -> Option<HiddenStates> {
        Some(match self.variant {
            Variant::Dev => HiddenStates { hidden: &[10, 20, 30], pads: Padding::Before },
            _ => HiddenStates { hidden: &[9, 18, 27], pads: Padding::After },
        })
    }

    /// All rows enter the transformer, padding included. Mistral pads on the left and gives one row for all padding tokens, which
    /// is repeated; Qwen3 pads on the right.
    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning> {
        let wrong = || Error::failed("FLUX.2 needs the hidden states of one text encoder");
        let [Tensor::F32(hidden)]: [Tensor; 1] = outputs.try_into().map_err(|_| wrong())? else { return Err(wrong()) };
        let (tokens, found) = (self.text_tokens, hidden.shape().get(1).copied().unwrap_or(0));
        let source = |row: usize| match self.variant {
            Variant::Dev => (row + found).saturating_sub(tokens),
            _ => row,
        };
        let rows: Vec<usize> = (0..tokens).map(source).collect();
        if hidden.ndim() != 3 || rows.iter().any(|&row| row >= found) {
            return Err(wrong());
        }
        let text = Tensor::F32(hidden.select(Axis(1), &rows));
        Ok(Conditioning { inputs: vec![("text", text)], text_tokens: tokens })
    }
}

impl LatentLayout for Flux2 {
    fn latent_channels(&self) -> usize {
        self.transformer.in_channels
    }

    fn vae_scale_factor(&self) -> usize {
        self.vae.patch_size[0] << (self.vae.block_out_channels.len() - 1)
    }

    fn patch_size(&self) -> usize {
        1
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum::FLUX
    }

    /// The VAE's graph applies its statistics itself.
    fn denormalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent.clone()
    }

    fn normalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32> {
        latent.clone()
    }
}

impl Sampling for Flux2 {
    fn schedule(&self) -> &FlowMatch {
        &self.schedule
    }

    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>> {
        let mu = empirical_mu(self.tokens(&self.latent_shape(size)), steps);
        self.schedule.sigmas(steps, Some(mu))
    }

    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance> {
        let name = self.name();
        if let Some(scale) = request.true_cfg {
            return Err(Error::usage(format!("--true-cfg-scale {scale}: {name} is guided by --guidance-scale")));
        }
        let default = if self.variant == Variant::Distilled { 1.0 } else { GUIDANCE };
        let scale = request.scale.unwrap_or(default);
        Ok(match self.variant {
            Variant::Dev => Guidance::Embedded(scale),
            Variant::Distilled => Guidance::None,
            Variant::Base if scale > 1.0 => Guidance::Cfg { scale, embedded: None },
            Variant::Base => Guidance::None,
        })
    }
}

impl TransformerIo for Flux2 {
    fn positions(&self, latent: &[usize], text_tokens: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, columns) = (latent[2], latent[3]);
        let text = (0..text_tokens).map(|i| [0, 0, 0, i]);
        let image = (0..rows).flat_map(|r| (0..columns).map(move |c| [0, r, c, 0]));
        rotary(text.chain(image), &self.transformer.axes_dims_rope, self.transformer.rope_theta)
    }

    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, guidance: Option<f32>) -> Vec<(&'static str, Tensor)> {
        let guidance = guidance.map(|scale| ("guidance", scalar(scale)));
        [("latents", Tensor::F32(row_major(latent))), ("sigma", scalar(sigma))].into_iter().chain(guidance).collect()
    }

    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
        spatial(output, latent)
    }
}

impl Family for Flux2 {
    fn name(&self) -> &str {
        self.variant.name()
    }

    fn defaults(&self) -> Defaults {
        let steps = if self.variant == Variant::Distilled { 4 } else { 50 };
        Defaults { size: Size::SQUARE_1024, steps, fps: None }
    }
}
