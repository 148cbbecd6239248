//! Z-Image: rejected requests and defaults.

use std::path::Path;

use crescendo::{pipeline::plan_generate, plan::GeneratePlan, spectral::Mode};

use crate::plans;

type Change = fn(&mut GeneratePlan);

fn plan_for(change: Change) -> GeneratePlan {
    let mut plan = plans::generate(Path::new("tests/goldens/z-image/model"), "a fox");
    change(&mut plan);
    plan
}

#[test]
fn invalid_requests_are_rejected_before_loading() {
    let rows: &[(Change, &str)] = &[
        (
            |p| p.size = crescendo::plan::Sides::of(360, 640),
            "--height 360: Z-Image-Turbo needs a multiple of 16; 352 or 368",
        ),
        (|p| p.size = crescendo::plan::Sides::of(64, 8), "--width 8: Z-Image-Turbo needs a multiple of 16; 16"),
        (|p| p.frames = Some(5), "makes single pictures"),
        (|p| p.fps = Some(16.0), "makes single pictures"),
        (|p| p.true_cfg_scale = Some(4.0), "--true-cfg-scale 4: Z-Image-Turbo is guided by --guidance-scale"),
        (|p| p.max_sequence_length = Some(513), "max_sequence_length 513: Z-Image-Turbo reads 1 to 512 tokens"),
        (|p| p.cfg_normalization = Some(1.0), "--cfg-normalization 1: it needs the guidance of Z-Image"),
        (|p| p.cfg_truncation = Some(0.5), "--cfg-truncation 0.5: it needs the guidance of Z-Image"),
        (|p| p.flow_shift = Some(0.0), "shift must be a positive number"),
    ];
    let mut wrong = vec![];
    for (change, wanted) in rows {
        match plan_generate(&plan_for(*change)) {
            Err(e) if e.to_string().contains(wanted) => {}
            Err(e) => wrong.push(format!("wanted {wanted:?}, got {e}")),
            Ok(_) => wrong.push(format!("wanted {wanted:?}, got a plan")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn splits_equal_the_published_table() {
    let rows: &[(Change, &str)] = &[
        (|_| {}, "9@128x128"),
        (|p| p.guidance_scale = Some(4.0), "9@128x128"),
        (
            |p| {
                (p.steps, p.flow_shift) = (Some(50), Some(6.0));
                p.progressive.mode = Mode::DctRewind;
            },
            "26@64x64 + 24@128x128",
        ),
    ];
    let mut wrong = vec![];
    for (change, wanted) in rows {
        let forecast = plan_generate(&plan_for(*change)).unwrap();
        let found: Vec<String> =
            forecast.stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        if found.join(" + ") != *wanted {
            wrong.push(format!("wanted {wanted}, got {}", found.join(" + ")));
        }
        if forecast.stages.iter().any(|s| s.flop.is_none()) {
            wrong.push(format!("{wanted}: no cost"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
