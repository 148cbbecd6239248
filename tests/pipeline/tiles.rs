//! When the VAE works in tiles, what `plan` reports, and which options are errors. Parity of the tiles with diffusers is tested in
//! `tests/parity/vae.rs`.

use std::path::Path;

use crescendo::{
    pipeline::{Context, generate, plan_generate},
    plan::{Destination, GeneratePlan, Sides, Vae, VaeTiling},
    progress::Silent,
};

use crate::{plans, samples};

fn plan_for(model: &str, size: (usize, usize), tiling: VaeTiling, tile: Option<usize>) -> GeneratePlan {
    let mut plan = plans::generate(&Path::new("tests/goldens").join(model).join("model"), "a fox");
    plan.size = Sides::of(size.0, size.1);
    plan.vae = Vae { tiling, tile, overlap: None };
    plan
}

/// Model, size, tiling, tile, memory limit, and the note about tiles.
type Row = (&'static str, (usize, usize), VaeTiling, Option<usize>, Option<u64>, Option<&'static str>);

#[test]
fn a_plan_reports_tiling() {
    use VaeTiling::{Auto, Off, On};
    let rows: &[Row] = &[
        ("flux1-dev", (64, 96), Auto, None, None, None),
        ("flux1-dev", (64, 96), Auto, Some(32), None, None),
        ("flux1-dev", (64, 96), Auto, Some(32), Some(1), Some("decoded in tiles of 32 pixels, overlap 8")),
        ("flux1-dev", (64, 96), Off, None, Some(1), None),
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
        ("flux1-dev", (512, 640), Auto, None, Some(1), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("flux2-klein", (512, 640), Auto, None, Some(1), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("qwen-image", (512, 640), Auto, None, Some(1), Some("decoded in tiles of 128 pixels, overlap 32")),
        ("qwen-image", (512, 640), On, None, Some(1), Some("decoded in tiles of 256 pixels, overlap 64")),
        ("wan", (480, 832), Auto, None, Some(100_000_000), Some("decoded in tiles of 256 pixels, overlap 64")),
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

/// A tiled video has all frames, differs from the untiled one, and leaves no temporary file.
#[test]
fn a_tiled_video_is_complete() {
    let temp = tempfile::tempdir().unwrap();
    let made: Vec<Vec<u8>> = [VaeTiling::Off, VaeTiling::On]
        .into_iter()
        .map(|tiling| {
            let mut plan = plan_for("wan", (64, 96), tiling, (tiling == VaeTiling::On).then_some(32));
            (plan.frames, plan.steps) = (Some(5), Some(2));
            (plan.output.codec, plan.output.pix_fmt) = (Some("ffv1".into()), Some("bgr0".into()));
            let path = temp.path().join(format!("{tiling:?}.mkv"));
            plan.output.destination = Destination::File(path.clone());
            generate(&plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
            samples(&path, true)
        })
        .collect();
    assert_eq!(made[0].len(), 5 * 64 * 96 * 3);
    assert_eq!(made[1].len(), made[0].len());
    assert_ne!(made[0], made[1]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
}
