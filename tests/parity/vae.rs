//! Compares tiled VAEs and the two-graph video decoder with diffusers (`scripts/reference/vae_tiles.py`, `families.py`).

use crescendo::{
    compile::{self, Subgraph},
    family::{self, Overrides},
    model::ModelFolder,
    onnx::Target,
    progress::Silent,
    runtime::Network,
    stage::vae::{self, DecoderNetworks, Tiling, VideoDecoder, VideoEncoder},
};
use ndarray::{ArrayD, Axis, stack};
use serde::Deserialize;

use crate::table::{Golden, NETWORK, TARGETS, Table, cases, goldens, load};

#[derive(Deserialize)]
struct Case {
    model: String,
    case: usize,
    side: usize,
    overlap: usize,
}

fn network(model: &str, part: Subgraph, target: Target) -> Network {
    let folder = ModelFolder::open(&goldens(model).join("model")).unwrap();
    let class = folder.class_of("vae").unwrap();
    compile::component(&folder.path("vae").unwrap(), class, part, None, target).and_then(|m| load(&m)).unwrap()
}

fn networks(target: Target) -> DecoderNetworks {
    let part = |part| network("wan", part, target);
    DecoderNetworks {
        first_features: part(Subgraph::DecoderTrunk),
        later_features: part(Subgraph::CachedDecoderTrunk),
        first_picture: part(Subgraph::DecoderHead),
        later_picture: part(Subgraph::CachedDecoderHead),
    }
}

/// Decodes to [1, 3, t, h, w] in −1..=1, like diffusers.
fn pictures(video: &mut VideoDecoder<'_>, latent: ArrayD<f32>) -> Result<ArrayD<f32>, String> {
    let frames = video.frames(latent).collect::<crescendo::Result<Vec<_>>>().map_err(|e| e.to_string())?;
    let views: Vec<_> = frames.iter().map(|f| f.view()).collect();
    let all = stack(Axis(1), &views).map_err(|e| e.to_string())?;
    Ok(all.mapv(|v| v * 2.0 - 1.0).insert_axis(Axis(0)).into_dyn())
}

/// Encodes pictures [1, 3, t, h, w] in 0..=1 to a latent.
fn encoded(pictures: &ArrayD<f32>, tiling: Option<Tiling>, target: Target) -> crescendo::Result<ArrayD<f32>> {
    let part = |part| network("wan", part, target);
    let mut encoder = VideoEncoder::new(part(Subgraph::Encoder), part(Subgraph::CachedEncoder), tiling)?;
    let frames = pictures.index_axis(Axis(0), 0);
    encoder.encode(&mut frames.axis_iter(Axis(1)).map(|f| Ok(f.to_owned().into_dimensionality().unwrap())))
}

/// Removes the frame axis (2), if present.
fn without_frame_axis(a: ArrayD<f32>) -> ArrayD<f32> {
    if a.ndim() == 5 { a.index_axis_move(Axis(2), 0) } else { a }
}

/// Maximum error of pictures. The last norm of the tiny Wan VAE has two channels and amplifies rounding errors.
fn limit(model: &str) -> f32 {
    if matches!(model, "wan" | "qwen-image") { 3e-4 } else { NETWORK }
}

#[test]
fn tiled_vaes_equal_diffusers() {
    let golden = Golden::open("vae-tiles/goldens.safetensors");
    let mut table = Table::default();
    for Case { model, case, side, overlap } in cases::<Vec<Case>>("vae-tiles/cases.json") {
        let of = |key: &str| golden.f32(&format!("{model}.{case}.{key}"));
        let form = compile::autoencoder(&goldens(&model).join("model/vae"), class(&model)).unwrap();
        let tiling = Tiling { side, overlap, factor: form.factor, patch: form.patch };
        let name = format!("{model} {case}, tiles of {side}, {overlap} shared");
        let image = of("image").mapv(|v| v.clamp(-1.0, 1.0));
        let got = if model == "wan" {
            let folder = tempfile::tempdir().unwrap();
            let mut video = VideoDecoder::new(networks(Target::CPU), Some(tiling), folder.path().into(), &Silent);
            pictures(&mut video, of("latents"))
        } else {
            let mut decoder = network(&model, Subgraph::Decoder, Target::CPU);
            let planes =
                vae::decode(&mut decoder, without_frame_axis(of("latents")), Some(tiling)).map_err(|e| e.to_string());
            planes.map(|p| p.mapv(|v| v * 2.0 - 1.0).insert_axis(Axis(0)).into_dyn())
        };
        let image = if model == "wan" { image } else { without_frame_axis(image) };
        table.compare(format!("decode {name}"), got, &image, limit(&model));
        let picture = of("picture").mapv(|v| v * 0.5 + 0.5);
        let (got, mean) = if model == "wan" {
            (encoded(&picture, Some(tiling), Target::CPU), of("mean"))
        } else {
            let planes = without_frame_axis(picture).index_axis_move(Axis(0), 0).into_dimensionality().unwrap();
            let mut encoder = network(&model, Subgraph::Encoder, Target::CPU);
            (vae::encode(&mut encoder, &planes, Some(tiling)), without_frame_axis(of("mean")))
        };
        table.compare(format!("encode {name}"), got, &mean, NETWORK);
    }
    table.finish();
}

fn class(model: &str) -> &'static str {
    match model {
        "flux1-dev" => "AutoencoderKL",
        "flux2-klein" => "AutoencoderKLFlux2",
        "qwen-image" => "AutoencoderKLQwenImage",
        _ => "AutoencoderKLWan",
    }
}

#[test]
fn untiled_videos_equal_diffusers() {
    let folder = ModelFolder::open(&goldens("wan/model")).unwrap();
    let family = family::open(&folder, &Overrides::default()).unwrap();
    let golden = Golden::open("wan/vae.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        let mut video = VideoDecoder::new(networks(target), None, std::env::temp_dir(), &Silent);
        for n in 0..2 {
            let latents = family.denormalize(&golden.f32(&format!("decode.{n}.latents")));
            let want = golden.f32(&format!("decode.{n}.image"));
            table.compare(format!("{name} decode {n}"), pictures(&mut video, latents), &want, limit("wan"));
            let image = golden.f32(&format!("encode.{n}.image")).mapv(|v| v * 0.5 + 0.5);
            let want = golden.f32(&format!("encode.{n}.mean"));
            table.compare(format!("{name} encode {n}"), encoded(&image, None, target), &want, NETWORK);
        }
    }
    table.finish();
}

/// Scale factor, patch, tile and overlap equal the defaults of diffusers.
#[test]
fn default_tiling_equals_diffusers() {
    let mut table = Table::default();
    for (model, want) in [
        ("flux1-dev", (8, 1, 1024, 256)),
        ("flux2-klein", (16, 2, 1024, 256)),
        ("qwen-image", (8, 1, 256, 64)),
        ("wan", (8, 1, 256, 64)),
    ] {
        let form = compile::autoencoder(&goldens(model).join("model/vae"), class(model)).unwrap();
        let got = (form.factor, form.patch, form.tile, form.overlap);
        table.row(got == want, format!("{model}: {got:?} for {want:?}"));
    }
    table.finish();
}
