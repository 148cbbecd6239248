//! Sizes whose levels do not halve evenly. Every size that a family supports also supports growth.

use std::path::Path;

use crescendo::{
    pipeline::{Context, generate, plan_generate},
    plan::{Destination, GeneratePlan, Sides},
    progress::Silent,
    spectral::{Mode, Scales, Transform},
};

use crate::{MODELS, plans};

/// A progressive plan for a family's tiny checkpoint.
fn plan_for(model: &str, height: usize, width: usize, levels: usize, transform: Transform) -> GeneratePlan {
    let mut plan = plans::generate(&Path::new("tests/goldens").join(model).join("model"), "fox");
    plan.size = Sides::of(height, width);
    plan.frames = (model == "wan").then_some(5);
    plan.progressive.mode = Mode::DctRewind;
    plan.progressive.scales = Scales::Levels(levels);
    plan.progressive.delta = 0.2;
    plan.progressive.transform = transform;
    plan
}

/// Returns pixels per latent row, and the required multiple of latent rows.
fn grid(model: &str) -> (usize, usize) {
    if model.starts_with("flux2") { (16, 1) } else { (8, 2) }
}

/// Latents: 46×80 for 368×640, 166×166 for 1328×1328, 208×116 for 1664×928. The last two sizes are from Qwen-Image's model card.
#[test]
fn every_size_supports_growth() {
    let mut wrong = vec![];
    for model in MODELS {
        let (factor, patch) = grid(model);
        for (height, width) in [(368, 640), (1328, 1328), (1664, 928), (928, 1664), (1104, 1472), (128, 176)] {
            for levels in [1, 2, 3] {
                let name = format!("{model} {height}×{width}, {levels} levels");
                let forecast = match plan_generate(&plan_for(model, height, width, levels, Transform::Dct)) {
                    Ok(forecast) => forecast,
                    Err(e) => {
                        wrong.push(format!("{name}: {e}"));
                        continue;
                    }
                };
                let sizes: Vec<(usize, usize)> = forecast.stages.iter().map(|s| (s.height, s.width)).collect();
                if sizes.last() != Some(&(height / factor, width / factor)) {
                    wrong.push(format!("{name}: ends at {:?}", sizes.last()));
                }
                if sizes.iter().any(|(h, w)| !h.is_multiple_of(patch) || !w.is_multiple_of(patch)) {
                    wrong.push(format!("{name}: {sizes:?} are no multiples of {patch}"));
                }
                // Within one patch of the exact half.
                let halves = sizes
                    .windows(2)
                    .all(|p| p[1].0.abs_diff(2 * p[0].0) <= 2 * patch && p[1].1.abs_diff(2 * p[0].1) <= 2 * patch);
                if !halves {
                    wrong.push(format!("{name}: {sizes:?} do not halve"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn odd_levels_run_in_every_transform() {
    let mut wrong = vec![];
    for model in MODELS {
        for transform in [Transform::Dct, Transform::Fft, Transform::Dwt] {
            let temp = tempfile::tempdir().unwrap();
            // A latent of 6×10 (FLUX.2: 3×5). Wavelets require even sizes, so theirs is twice as large.
            let (height, width) = if transform == Transform::Dwt { (64, 96) } else { (48, 80) };
            let mut plan = plan_for(model, height, width, 1, transform);
            plan.steps = Some(4);
            let video = model == "wan";
            let out = temp.path().join(if video { "out.mkv" } else { "out.png" });
            plan.output.destination = Destination::File(out);
            let cx = Context::start(&plan.runtime, &Silent).unwrap();
            match generate(&plan, &cx) {
                Ok(made) if (made.outputs[0].height, made.outputs[0].width) == (height, width) => {}
                Ok(made) => wrong.push(format!("{model} {transform:?}: {:?}", made.outputs[0])),
                Err(e) => wrong.push(format!("{model} {transform:?}: {e}")),
            }
        }
        let refused = plan_generate(&plan_for(model, 48, 80, 1, Transform::Dwt));
        if !refused.as_ref().is_err_and(|e| e.to_string().contains("dwt")) {
            wrong.push(format!("{model}: wavelets at 48×80 gave {:?}", refused.map(|f| f.stages)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
