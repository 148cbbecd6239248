//! `inspect`: describes a file or folder, and the two libraries.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::report::{ComponentRow, Inspection};
use crate::{
    compile::{self, CheckpointInfo},
    error::Result,
    media::video,
    model::ModelFolder,
    plan::RuntimeOptions,
    runtime::{self, Description, Engine, Load, Signature},
};

/// Describes a checkpoint from headers and configs, without reading weights. ONNX Runtime opens a graph.
pub fn inspect(path: &Path, options: &RuntimeOptions) -> Result<Inspection> {
    if path.extension().is_some_and(|e| e == "onnx") {
        return graph(path, options);
    }
    if !path.join("model_index.json").exists() {
        return compile::identify(path).map(weights);
    }
    let folder = ModelFolder::open(path)?;
    let mut components = Vec::new();
    for (name, class) in folder.components() {
        if class.ends_with("Scheduler") || class.contains("Tokenizer") || class == "PixtralProcessor" {
            continue;
        }
        let inspection = weights(compile::identify(&folder.path(name)?)?);
        components.push(ComponentRow { name: name.into(), inspection });
    }
    let transformer = components.iter().find(|p| p.name == "transformer");
    Ok(Inspection {
        kind: "diffusion".into(),
        architecture: folder.class.clone(),
        parameters: components.iter().map(|p| p.inspection.parameters).sum(),
        dtype: transformer.map(|p| p.inspection.dtype.clone()).unwrap_or_default(),
        tensors: components.iter().map(|p| p.inspection.tensors).sum(),
        components,
        ..Inspection::default()
    })
}

fn weights(found: CheckpointInfo) -> Inspection {
    let mut details = Map::new();
    let mut add = |name: &str, value: Option<Value>| value.map(|v| details.insert(name.into(), v));
    add("container", Some(json!(found.container)));
    add("bytes", Some(json!(found.bytes)));
    add("depth", found.depth.map(|d| json!(d)));
    add("wrapper", found.wrapper.map(|w| json!(w)));
    Inspection {
        kind: found.kind.into(),
        architecture: found.architecture,
        parameters: found.parameters,
        dtype: found.dtype,
        tensors: found.tensors as u64,
        scale: found.scale.map(|s| s as u32),
        version: found.version.map(str::to_string),
        details,
        components: vec![],
    }
}

fn graph(path: &Path, options: &RuntimeOptions) -> Result<Inspection> {
    let network = Engine::start(&options.engine)?.load_file("the graph", path, &Load::default())?;
    let show = |s: &Signature| {
        let extent = |(known, name): (&Option<usize>, &String)| known.map_or_else(|| name.clone(), |n| n.to_string());
        let shape: Vec<String> = s.shape.iter().zip(&s.dims).map(extent).collect();
        format!("{} {} [{}]", s.name, s.dtype.name(), shape.join(", "))
    };
    let mut details = Map::new();
    details.insert("inputs".into(), json!(network.inputs().iter().map(show).collect::<Vec<_>>()));
    details.insert("outputs".into(), json!(network.outputs().iter().map(show).collect::<Vec<_>>()));
    Ok(Inspection { kind: "graph".into(), architecture: "ONNX".into(), details, ..Inspection::default() })
}

/// The installed ONNX Runtime and FFmpeg.
#[derive(Debug, Clone)]
pub struct Libraries {
    /// ONNX Runtime and its devices.
    pub onnxruntime: Description,
    /// The required version of ONNX Runtime.
    pub wanted: &'static str,
    /// FFmpeg's version.
    pub ffmpeg: String,
    /// Names of its video encoders.
    pub encoders: Vec<String>,
    /// Names of its video decoders.
    pub decoders: Vec<String>,
}

/// Describes both libraries. Never fails.
pub fn libraries(options: &RuntimeOptions) -> Libraries {
    Libraries {
        onnxruntime: runtime::describe(&options.engine),
        wanted: runtime::WANTED,
        ffmpeg: video::ffmpeg_version(),
        encoders: video::video_encoders(),
        decoders: video::video_decoders(),
    }
}
