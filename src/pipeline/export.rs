//! A checkpoint as ONNX graphs in a folder.
//!
//! The folder keeps diffusers' layout, with the weights linked and the small files copied, so that it is a model itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::resolved::Resolved;
use crate::{
    compile::{self, Part},
    error::{Error, Result},
    family::ModelFolder,
    onnx::{Provider, Target},
    plan::GeneratePlan,
    tensor::DType,
};

/// What the graphs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphTarget {
    /// ONNX Runtime on the CPU.
    Cpu,
    /// ONNX Runtime on CUDA, arithmetic in this type.
    Cuda(DType),
    /// Standard operators only.
    Portable,
}

/// What is exported, and where to.
#[derive(Debug, Clone)]
pub struct ExportPlan {
    /// A folder in diffusers' layout, or a file of weights of an upscaler or RIFE.
    pub source: PathBuf,
    /// The folder for the graphs.
    pub folder: PathBuf,
    /// What the graphs are for.
    pub target: GraphTarget,
    /// Whether other files of the same names may be replaced.
    pub overwrite: bool,
    /// Size, levels and the like: one fixed-shape transformer is written per level.
    pub generate: Option<GeneratePlan>,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// Each graph's file and bytes.
    pub graphs: Vec<(PathBuf, u64)>,
    /// Elements of all weights, each counted once.
    pub parameters: u64,
    /// Bytes of all weights, which stay where they are.
    pub weight_bytes: u64,
    /// Tensors of all weights.
    pub tensors: usize,
}

impl GraphTarget {
    fn target(self) -> Target {
        match self {
            Self::Cpu => Target::CPU,
            Self::Cuda(compute) => Target { provider: Provider::Cuda, compute },
            Self::Portable => Target { provider: Provider::Portable, compute: DType::F32 },
        }
    }
}

/// Writes the graphs.
pub fn export(plan: &ExportPlan) -> Result<Exported> {
    let mut out = compile::export(&plan.folder, plan.overwrite)?;
    let mut sum = (0, 0, 0);
    let mut count = |m: &crate::onnx::Model| {
        sum = (sum.0 + m.parameters, sum.1 + m.weight_bytes, sum.2 + m.weights);
    };
    if plan.source.join("model_index.json").exists() {
        let folder = ModelFolder::open(&plan.source)?;
        let build = |name: &str, part, tokens| {
            compile::component(&folder.path(name)?, folder.class_of(name)?, part, tokens, plan.target.target())
        };
        let known: Vec<String> = folder
            .components()
            .filter(|(_, class)| compile::CLASSES.contains(class))
            .map(|(name, _)| name.to_string())
            .collect();
        for name in &known {
            if name == "vae" {
                let (encoder, decoder) = (build(name, Part::Encoder, None)?, build(name, Part::Decoder, None)?);
                count(&encoder);
                count(&decoder);
                out.graph("vae_encoder", name, &encoder)?;
                out.graph("vae_decoder", name, &decoder)?;
                continue;
            }
            let model = build(name, Part::Whole, None)?;
            count(&model);
            out.graph(name, name, &model)?;
        }
        if let Some(generate) = &plan.generate {
            for stage in Resolved::new(generate)?.stages() {
                let model = build("transformer", Part::Whole, Some(stage.tokens))?;
                out.graph(&format!("transformer.{}x{}", stage.height, stage.width), "transformer", &model)?;
            }
        }
        copy_small(&plan.source, &plan.source, &mut out)?;
    } else {
        let (name, model) = single(&plan.source, plan.target.target())?;
        count(&model);
        out.graph(name, "", &model)?;
    }
    Ok(Exported {
        folder: plan.folder.clone(),
        graphs: out.graphs,
        parameters: sum.0,
        weight_bytes: sum.1,
        tensors: sum.2,
    })
}

/// An upscaler's or RIFE's weights.
fn single(source: &Path, target: Target) -> Result<(&'static str, crate::onnx::Model)> {
    if compile::identify(source)?.kind == "interpolator" {
        return Ok(("rife", compile::interpolator(source, 1.0, target)?.model));
    }
    Ok(("upscaler", compile::upscaler(source, target)?.model))
}

/// Configs, schedulers and tokenizers: everything below the source that is neither weights nor larger than 64 MB.
fn copy_small(root: &Path, at: &Path, out: &mut compile::Export) -> Result<()> {
    let entries = fs::read_dir(at).map_err(|e| Error::io("listing", at, &e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        let Ok(meta) = fs::metadata(&path) else { continue };
        let small = ["json", "txt", "model", "jinja", "md"];
        let wanted = path.extension().and_then(|e| e.to_str()).is_some_and(|e| small.contains(&e));
        if meta.is_dir() && at == root {
            copy_small(root, &path, out)?;
        } else if meta.is_file() && wanted && meta.len() < 64 << 20 {
            let to = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            out.copy(&path, &to)?;
        }
    }
    Ok(())
}
