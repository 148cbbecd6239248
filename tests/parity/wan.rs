//! Compares Wan 2.1's networks with transformers and diffusers (`scripts/reference/families.py`).

use crescendo::{
    Result, compile,
    compile::Subgraph,
    family::{self, Family, Overrides},
    model::ModelFolder,
    onnx::Target,
    progress::Silent,
    runtime::Network,
    stage::vae::{DecoderNetworks, VideoDecoder},
    tensor::Tensor,
};
use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};

use crate::table::{Golden, NETWORK, Outputs, TARGETS, Table, goldens, load, output, run};

/// Maximum error of decoded pictures. The last norm of the tiny networks has two channels and amplifies rounding errors: the
/// reference in f32 differs from itself in f64 by up to 6·10⁻⁵.
const DECODED: f32 = 3e-4;

fn network(model: &str, component: &str, part: Subgraph, target: Target) -> Result<Network> {
    let class = match (model, component) {
        (_, "text_encoder") => "UMT5EncoderModel",
        ("wan", _) => "AutoencoderKLWan",
        _ => "AutoencoderKLQwenImage",
    };
    let folder = goldens(model).join("model").join(component);
    compile::component(&folder, class, part, None, target).and_then(|m| load(&m))
}

fn wan() -> Box<dyn Family> {
    family::open(&ModelFolder::open(&goldens("wan/model")).unwrap(), &Overrides::default()).unwrap()
}

#[test]
fn transformer_velocity_equals_diffusers() {
    let family = wan();
    let mut table = Table::default();
    for run_name in ["fullres-64x96", "fullres-96x64"] {
        let golden = Golden::open(&format!("wan/runs/{run_name}.safetensors"));
        let latents = golden.f32("dit.in.hidden_states");
        let shape = latents.shape().to_vec();
        let time = golden.i64("dit.in.timestep").mapv(|t| t as f32);
        // The golden has the timestep, not σ.
        let mut inputs = family.step_inputs(&latents, 0.5, None);
        inputs.retain(|(name, _)| *name != "timestep");
        inputs.extend([("timestep", Tensor::F32(time)), ("text", golden.f32("dit.in.encoder_hidden_states").into())]);
        inputs.extend(family.positions(&shape, 0));
        for (name, target) in TARGETS {
            for tokens in [None, Some(family.tokens(&shape))] {
                let folder = goldens("wan/model/transformer");
                let model = compile::component(&folder, "WanTransformer3DModel", Subgraph::Full, tokens, target);
                let out = model.and_then(|m| load(&m)).map_err(|e| e.to_string());
                let out = out.and_then(|mut net| run(&mut net, &inputs));
                let got = output(&out, "velocity").map(|v| family.velocity(&v, &shape).unwrap());
                let fixed = if tokens.is_some() { " fixed" } else { "" };
                table.compare(format!("dit {name} {run_name}{fixed}"), got, &golden.f32("dit.out"), NETWORK);
            }
        }
    }
    table.finish();
}

#[test]
fn umt5_hidden_states_equal_transformers() {
    let golden = Golden::open("wan/text.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        let mut net = network("wan", "text_encoder", Subgraph::Full, target);
        for n in 0..3 {
            let ids = golden.i64(&format!("{n}.ids"));
            let used = ids.iter().position(|&id| id == 0).unwrap_or(ids.len());
            let given = ids.slice_axis(Axis(1), Slice::from(..used)).to_owned();
            let out = net.as_mut().map_err(|e| e.to_string()).and_then(|net| run(net, &[("ids", given.into())]));
            let mut want = golden.f32(&format!("{n}.states"));
            want.slice_axis_inplace(Axis(1), Slice::from(..used));
            table.compare(format!("umt5 {name} prompt {n}"), output(&out, "states"), &want, NETWORK);
        }
    }
    table.finish();
}

/// Runs a video through the first graph and then the later one, `step` frames at a time.
fn stream(networks: [Result<Network>; 2], input: &str, wanted: &str, all: &ArrayD<f32>, step: usize) -> Outputs {
    let [mut first, mut later] = networks.map(|n| n.map_err(|e| e.to_string()));
    let (mut caches, mut parts, mut at): (Vec<(String, Tensor)>, Vec<ArrayD<f32>>, usize) = (vec![], vec![], 0);
    while at < all.shape()[2] {
        let end = if at == 0 { 1 } else { at + step };
        let frames = all.slice_axis(Axis(2), Slice::from(at..end)).index_axis_move(Axis(0), 0);
        let frames = frames.permuted_axes(vec![1, 0, 2, 3]).as_standard_layout().into_owned();
        let mut inputs: Vec<(&str, Tensor)> = vec![(input, frames.into())];
        inputs.extend(caches.iter().map(|(name, t)| (name.as_str(), t.clone())));
        let net = if at == 0 { &mut first } else { &mut later };
        let out = run(net.as_mut().map_err(|e| e.clone())?, &inputs)?;
        parts.push(output(&Ok(out.clone()), wanted)?);
        let next =
            out.into_iter().filter_map(|(name, a)| Some((format!("cache.{}", name.strip_prefix("next.")?), a.into())));
        caches = next.collect();
        at = end;
    }
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    let whole = concatenate(Axis(0), &views).map_err(|e| e.to_string())?;
    let whole = whole.permuted_axes(vec![1, 0, 2, 3]).insert_axis(Axis(0));
    Ok(vec![(wanted.to_string(), whole)])
}

#[test]
fn streamed_video_vae_equals_diffusers() {
    let family = wan();
    let golden = Golden::open("wan/vae.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        for n in 0..2 {
            let parts = |parts: [Subgraph; 2]| parts.map(|part| network("wan", "vae", part, target));
            let latents = family.denormalize(&golden.f32(&format!("decode.{n}.latents")));
            let got = stream(parts([Subgraph::Decoder, Subgraph::CachedDecoder]), "latents", "picture", &latents, 1);
            let got = output(&got, "picture").map(|p| p.mapv(|v| v.clamp(-1.0, 1.0)));
            table.compare(format!("vae {name} decode {n}"), got, &golden.f32(&format!("decode.{n}.image")), DECODED);
            let image = golden.f32(&format!("encode.{n}.image"));
            let got = stream(parts([Subgraph::Encoder, Subgraph::CachedEncoder]), "picture", "mean", &image, 4);
            let want = golden.f32(&format!("encode.{n}.mean"));
            table.compare(format!("vae {name} encode {n}"), output(&got, "mean"), &want, NETWORK);
        }
    }
    table.finish();
}

#[test]
fn picture_vae_equals_diffusers() {
    // Latent means and standard deviations are those of Wan.
    let family = wan();
    let golden = Golden::open("qwen-image/vae.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        for n in 0..2 {
            let call = |part, input: &str, wanted: &str, given: ArrayD<f32>| {
                let out = network("qwen-image", "vae", part, target).map_err(|e| e.to_string());
                output(&out.and_then(|mut net| run(&mut net, &[(input, given.into())])), wanted)
            };
            let latents = family.denormalize(&golden.f32(&format!("decode.{n}.latents")));
            let got = call(Subgraph::Decoder, "latents", "picture", latents).map(|p| p.mapv(|v| v.clamp(-1.0, 1.0)));
            let want = golden.f32(&format!("decode.{n}.image"));
            table.compare(format!("picture vae {name} decode {n}"), got, &want, DECODED);
            let image = golden.f32(&format!("encode.{n}.image")).index_axis_move(Axis(2), 0);
            let got = call(Subgraph::Encoder, "picture", "mean", image);
            let want = golden.f32(&format!("encode.{n}.mean")).index_axis_move(Axis(2), 0);
            table.compare(format!("picture vae {name} encode {n}"), got, &want, NETWORK);
        }
    }
    table.finish();
}

#[test]
fn videos_are_decoded_lazily() {
    let part = |part| network("wan", "vae", part, Target::CPU).unwrap();
    let networks = DecoderNetworks {
        first_features: part(Subgraph::DecoderTrunk),
        later_features: part(Subgraph::CachedDecoderTrunk),
        first_picture: part(Subgraph::DecoderHead),
        later_picture: part(Subgraph::CachedDecoderHead),
    };
    let mut video = VideoDecoder::new(networks, None, std::env::temp_dir(), &Silent);
    // Decoding is lazy: an invalid latent frame fails only its own frames.
    let broken = 3;
    let latents = ArrayD::from_shape_fn(IxDyn(&[1, 16, 5, 4, 6]), |i| if i[2] == broken { f32::NAN } else { 0.1 });
    let frames: Vec<Result<(usize, usize, usize)>> = video.frames(latents).map(|f| f.map(|f| f.dim())).collect();
    let mut table = Table::default();
    let good = 1 + 4 * (broken - 1);
    for (i, frame) in frames.iter().enumerate() {
        let found = frame.as_ref().map_or_else(ToString::to_string, |dim| format!("{dim:?}"));
        let right = if i < good { found == "(3, 32, 48)" } else { i == good && frame.is_err() };
        table.row(right, format!("frame {i} of {}: {found}", frames.len()));
    }
    table.row(frames.len() == good + 1, format!("{} results, the last an error", frames.len()));
    table.finish();
}
