//! When the VAE works in tiles, what `plan` reports, and which options are errors. Parity of the tiles with diffusers is tested in
//! `tests/parity/vae.rs`.

use std::path::Path;

use crescendo::{
    compile::{self, Subgraph},
    family::{self, Overrides},
    model::ModelFolder,
    onnx::Target,
    pipeline::{Context, generate, plan_generate},
    plan::{Destination, GeneratePlan, Sides, Vae, VaeTiling},
    progress::Silent,
    runtime::{Engine, Load},
    stage::vae::{DecoderNetworks, Tiling, VideoDecoder},
    tensor::{Frame, Samples},
    weights::Checkpoint,
};
use ndarray::{Array3, ArrayD};

use crate::{floats, plans, samples};

fn plan_for(model: &str, size: (usize, usize), tiling: VaeTiling, tile: Option<usize>) -> GeneratePlan {
    let mut plan = plans::generate(&Path::new("tests/goldens").join(model).join("model"), "a fox");
    plan.size = Sides::of(size.0, size.1);
    plan.vae = Vae { tiling, tile, overlap: None };
    plan
}

/// A limit that leaves the VAE almost nothing beside the program.
const TIGHT: u64 = 101_000_000;

/// Model, size, tiling, tile, memory limit, and the note about tiles.
type Row = (&'static str, (usize, usize), VaeTiling, Option<usize>, Option<u64>, Option<&'static str>);

#[test]
fn a_plan_reports_tiling() {
    use VaeTiling::{Auto, Off, On};
    let rows: &[Row] = &[
        ("flux1-dev", (64, 96), Auto, None, None, None),
        ("flux1-dev", (64, 96), Auto, Some(32), None, None),
        ("flux1-dev", (64, 96), Auto, Some(32), Some(TIGHT), Some("decoded in tiles of 32 pixels, overlap 8")),
        ("flux1-dev", (64, 96), Off, None, Some(TIGHT), None),
        (
            "flux1-dev",
            (64, 96),
            On,
            None,
            None,
            Some("decoded untiled: one tile of 1024 pixels holds the whole picture"),
        ),
        ("flux1-dev", (64, 1040), On, None, None, Some("decoded in tiles of 1024 pixels, overlap 256")),
        // Almost no memory gives the smallest tile. A tile never exceeds the picture.
        ("flux1-dev", (512, 640), Auto, None, Some(TIGHT), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("flux2-klein", (512, 640), Auto, None, Some(TIGHT), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("qwen-image", (512, 640), Auto, None, Some(TIGHT), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("qwen-image", (512, 640), On, None, Some(TIGHT), Some("decoded in tiles of 256 pixels, overlap 64")),
        ("wan", (480, 832), Auto, None, Some(205_000_000), Some("decoded in tiles of 256 pixels, overlap 64")),
    ];
    let mut wrong = vec![];
    for &(model, size, tiling, tile, limit, wanted) in rows {
        let mut plan = plan_for(model, size, tiling, tile);
        plan.runtime.engine.memory_limit = limit;
        let notes = plan_generate(&plan).unwrap().notes;
        let found = notes.iter().find(|n| n.contains("decoded"));
        if found.is_some() != wanted.is_some() || !found.is_none_or(|n| n.contains(wanted.unwrap_or_default())) {
            wrong.push(format!("{model} {size:?} {tiling:?} {tile:?} {limit:?}: wanted {wanted:?}, got {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn invalid_tiles_are_rejected() {
    let rows = [
        ("flux1-dev", Some(36), None, "--vae-tile 36: the VAE needs a multiple of 8; 32 or 40"),
        ("flux2-klein", Some(40), None, "--vae-tile 40: the VAE needs a multiple of 16; 32 or 48"),
        ("wan", Some(64), Some(12), "--vae-tile-overlap 12: the VAE needs a multiple of 8; 8 or 16"),
        ("wan", Some(64), Some(64), "--vae-tile-overlap 64: tiles of 64 pixels can overlap by at most 56"),
        ("wan", None, Some(512), "--vae-tile-overlap 512: tiles of 256 pixels can overlap by at most 248"),
    ];
    let mut wrong = vec![];
    for (model, tile, overlap, wanted) in rows {
        let mut plan = plan_for(model, (64, 96), VaeTiling::Auto, tile);
        plan.vae.overlap = overlap;
        match plan_generate(&plan) {
            Err(e) if e.to_string() == wanted => {}
            Err(e) => wrong.push(format!("wanted {wanted:?}, got {e}")),
            Ok(_) => wrong.push(format!("wanted {wanted:?}, got a plan")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The frames of Wan's tiny VAE for a latent, as bytes. `tests/parity/vae.rs` compares this decoder with diffusers.
fn decoded(latents: &Path, tiling: Option<Tiling>, folder: &Path) -> Vec<u8> {
    let model = ModelFolder::open(Path::new("tests/goldens/wan/model")).unwrap();
    let engine = Engine::start(&plans::runtime().engine).unwrap();
    let network = |part| {
        let (path, class) = (model.path("vae").unwrap(), model.class_of("vae").unwrap());
        let graph = compile::component(&path, class, part, None, Target::CPU).unwrap();
        engine.load("vae", &graph.bytes, &Load::default()).unwrap()
    };
    let networks = DecoderNetworks {
        first_features: network(Subgraph::DecoderTrunk),
        later_features: network(Subgraph::CachedDecoderTrunk),
        first_picture: network(Subgraph::DecoderHead),
        later_picture: network(Subgraph::CachedDecoderHead),
    };
    let mut decoder = VideoDecoder::new(networks, tiling, folder.into(), &Silent);
    let stored = Checkpoint::open(latents).unwrap();
    let shape = stored.get("latents").unwrap().shape.clone();
    let latents = ArrayD::from_shape_vec(shape, floats(&stored, "latents")).unwrap();
    let family = family::open(&model, &Overrides::default()).unwrap();
    let frames = decoder.frames(family.denormalize(&latents));
    let bytes = |frame: Array3<f32>| match Frame::from_planes(&frame, false).unwrap().samples {
        Samples::U8(bytes) => bytes,
        Samples::U16(_) => unreachable!("8 bits were asked for"),
    };
    frames.flat_map(|frame| bytes(frame.unwrap())).collect()
}

/// A video is its latent decoded in the requested tiles: every frame, in order. Nothing else is left in the folder.
#[test]
fn a_video_equals_its_latent_decoded_in_tiles() {
    let mut made = Vec::new();
    for (tiling, side) in [(VaeTiling::Off, None), (VaeTiling::On, Some(32)), (VaeTiling::On, Some(48))] {
        let (temp, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut plan = plan_for("wan", (64, 96), tiling, side);
        (plan.frames, plan.steps) = (Some(5), Some(2));
        (plan.output.codec, plan.output.pix_fmt) = (Some("ffv1".into()), Some("bgr0".into()));
        let path = temp.path().join("a.mkv");
        plan.output.destination = Destination::File(path.clone());
        plan.save_latents = Some(beside.path().join("latents.safetensors"));
        generate(&plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        let found = samples(&path, true);
        // Tiles overlap by a quarter of their side.
        let tiles = side.map(|side| Tiling { side, overlap: side / 4, factor: 8, patch: 1 });
        let wanted = decoded(plan.save_latents.as_ref().unwrap(), tiles, beside.path());
        let worst = found.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!((found.len(), wanted.len()), (5 * 64 * 96 * 3, 5 * 64 * 96 * 3), "{side:?}");
        assert!(worst <= Some(1), "{side:?}: {worst:?}");
        // The tiles are those that were asked for: other tiles give other pixels.
        let apart = |other: &Vec<u8>| found.iter().zip(other).filter(|(a, b)| a.abs_diff(**b) > 1).count();
        assert!(made.iter().all(|other| apart(other) > found.len() / 100), "{side:?} equals other tiles");
        made.push(found);
    }
}
