//! `export`: writes a checkpoint as ONNX graphs.
//!
//! The output folder keeps the diffusers layout, with linked weights and copied configs, so it can be used as a model.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    components::subgraph_of,
    context::Role,
    report::{Exported, GraphRow},
};
use crate::{
    compile::{self, Subgraph},
    error::{Error, Result},
    family::{self, Overrides, Size},
    files::read_text,
    model::ModelFolder,
    onnx::{Model, Provider, Target},
    plan::ExportPlan,
    runtime::DeviceChoice,
    tensor::DType,
};

/// Writes the graphs without reading weights.
pub fn export(plan: &ExportPlan) -> Result<Exported> {
    let begin = Instant::now();
    if matches!((plan.model.canonicalize(), plan.output.canonicalize()), (Ok(model), Ok(output)) if model == output) {
        let folder = plan.output.display();
        return Err(Error::usage(format!("-o {folder} is the folder of the model itself; choose another folder")));
    }
    check_folder(plan)?;
    let out = compile::export(&plan.output, plan.overwrite)?;
    let mut rows = Vec::new();
    let mut write = |name: &str, below: &str, class: &str, model: &Model| -> Result<()> {
        let (path, bytes) = out.graph(name, below, model)?;
        rows.push(GraphRow { path, architecture: class.into(), parameters: model.parameters, bytes });
        Ok(())
    };
    if plan.model.join("model_index.json").exists() {
        folder(plan, &mut write)?;
        copy_small(&plan.model, &plan.model, &out)?;
        let model = ModelFolder::open(&plan.model)?;
        for (name, _) in model.components().filter(|(_, class)| compile::supports(class)) {
            out.shards(&model.path(name)?, name)?;
        }
        // Written last: a folder with this file is complete.
        out.copy(&plan.model.join("model_index.json"), "model_index.json")?;
    } else {
        let info = compile::identify(&plan.model)?;
        if info.kind == "interpolation" {
            let net = compile::interpolator(&plan.model, 1.0, target(plan, Role::Exact)?)?;
            write("rife", "", &info.architecture, &net.model)?;
        } else {
            let net = compile::upscaler(&plan.model, target(plan, Role::Pictures)?)?;
            write("upscaler", "", &info.architecture, &net.model)?;
        }
    }
    Ok(Exported { graphs: rows, seconds: begin.elapsed().as_secs_f64() })
}

/// Refuses a folder that holds another model: its parts would be mixed.
fn check_folder(plan: &ExportPlan) -> Result<()> {
    let [ours, theirs] = [&plan.model, &plan.output].map(|folder| folder.join("model_index.json"));
    if plan.overwrite || !theirs.exists() || read_text(&ours).ok() == read_text(&theirs).ok() {
        return Ok(());
    }
    let folder = plan.output.display();
    Err(Error::usage(format!("-o {folder} holds another model; choose another folder, or pass --overwrite")))
}

type Write<'a> = dyn FnMut(&str, &str, &str, &Model) -> Result<()> + 'a;

/// Writes every network of a diffusers folder, and the transformer with fixed shapes for each resolution level.
fn folder(plan: &ExportPlan, write: &mut Write<'_>) -> Result<()> {
    let folder = ModelFolder::open(&plan.model)?;
    let family = family::open(&folder, &Overrides::default())?;
    let (exact, inexact) = (target(plan, Role::Exact)?, target(plan, Role::Transformer)?);
    let build = |name: &str, part, tokens| {
        let target = if name == "vae" { exact } else { inexact };
        compile::component(&folder.path(name)?, folder.class_of(name)?, part, tokens, target)
    };
    for (name, class) in folder.components().filter(|(_, class)| compile::supports(class)) {
        if name == "vae" {
            write("vae_encoder", name, class, &build(name, Subgraph::Encoder, None)?)?;
            write("vae_decoder", name, class, &build(name, Subgraph::Decoder, None)?)?;
            if family.is_video() {
                write("vae_encoder.later", name, class, &build(name, Subgraph::CachedEncoder, None)?)?;
                write("vae_decoder.later", name, class, &build(name, Subgraph::CachedDecoder, None)?)?;
            }
        } else {
            write(name, name, class, &build(name, subgraph_of(family.as_ref(), name, Subgraph::Full), None)?)?;
        }
    }
    let default = family.defaults().size;
    let (height, width) = plan.size.unwrap_or((default.height, default.width));
    family.check_size(Size { height, width, ..default })?;
    let class = folder.class_of("transformer")?;
    for level in (0..=plan.levels).rev() {
        let round = |n: usize| (n >> level) / family.patch_size() * family.patch_size();
        let mut latent = family.latent_shape(Size { height, width, ..default });
        let axes = latent.len();
        (latent[axes - 2], latent[axes - 1]) = (round(latent[axes - 2]), round(latent[axes - 1]));
        if latent.contains(&0) {
            return Err(Error::usage(format!(
                "--progressive-levels {}: {height}×{width} cannot be halved that many times",
                plan.levels
            )));
        }
        let model = build("transformer", Subgraph::Full, Some(family.tokens(&latent)))?;
        write(&format!("transformer.{}x{}", latent[axes - 2], latent[axes - 1]), "transformer", class, &model)?;
    }
    Ok(())
}

fn target(plan: &ExportPlan, role: Role) -> Result<Target> {
    let compute = plan.runtime.dtype;
    let gpu = matches!(plan.runtime.engine.device, DeviceChoice::Cuda(_) | DeviceChoice::TensorRt(_));
    match (plan.portable, gpu) {
        (true, _) => Ok(Target { provider: Provider::Portable, compute: compute.unwrap_or(DType::F32) }),
        (false, true) => Ok(Target { provider: Provider::Cuda, compute: role.compute(compute) }),
        (false, false) if compute.is_some_and(|c| c != DType::F32) => {
            Err(Error::usage("--dtype: graphs for the CPU compute in f32; add --device cuda or --portable"))
        }
        _ => Ok(Target::CPU),
    }
}

/// Copies configs, schedulers and tokenizers: every file below the source that has no weights and at most 64 MB.
fn copy_small(root: &Path, at: &Path, out: &compile::Export) -> Result<()> {
    let entries = fs::read_dir(at).map_err(|e| Error::io("listing", at, &e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        let Ok(meta) = fs::metadata(&path) else { continue };
        let small = ["json", "txt", "model", "jinja", "md"];
        let wanted = path.extension().and_then(|e| e.to_str()).is_some_and(|e| small.contains(&e));
        if path.file_name().is_some_and(|n| n == "model_index.json") {
            continue;
        }
        if meta.is_dir() && at == root {
            copy_small(root, &path, out)?;
        } else if meta.is_file() && wanted && meta.len() < 64 << 20 {
            let to = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            out.copy(&path, &to)?;
        }
    }
    Ok(())
}
