//! FLUX.2 and Qwen-Image: rejected requests, guidance, published splits.

use std::path::Path;

use crescendo::{
    family::{self, Convention, GuidanceRequest, Overrides},
    model::ModelFolder,
    pipeline::plan_generate,
    plan::GeneratePlan,
    schedule::Guidance,
    spectral::Mode,
};

use crate::plans;

type Change = fn(&mut GeneratePlan);

fn plan_for(model: &str, change: Change) -> GeneratePlan {
    let mut plan = plans::generate(&Path::new("tests/goldens").join(model).join("model"), "a fox");
    change(&mut plan);
    plan
}

#[test]
fn invalid_requests_are_rejected_before_loading() {
    let rows: &[(&str, Change, &str)] = &[
        (
            "flux2-klein",
            |p| p.size = crescendo::plan::Sides::of(360, 640),
            "--height 360: FLUX.2-klein needs a multiple of 16; 352 or 368",
        ),
        (
            "flux2-dev",
            |p| p.size = crescendo::plan::Sides::of(64, 8),
            "--width 8: FLUX.2-dev needs a multiple of 16; 16",
        ),
        ("flux2-dev", |p| p.true_cfg_scale = Some(4.0), "--true-cfg-scale 4: FLUX.2-dev is guided by --guidance-scale"),
        ("flux2-dev", |p| p.max_sequence_length = Some(513), "FLUX.2-dev reads 2 to 512 tokens"),
        ("flux2-klein", |p| p.max_sequence_length = Some(1), "FLUX.2-klein reads 2 to 512 tokens"),
        (
            "flux2-klein",
            |p| p.flow_shift = Some(3.0),
            "--flow-shift 3: FLUX.2-klein shifts its schedule by the picture's",
        ),
        ("flux2-klein", |p| p.frames = Some(5), "makes single pictures"),
        (
            "qwen-image",
            |p| p.size = crescendo::plan::Sides::of(1328, 1000),
            "--width 1000: Qwen-Image needs a multiple of 16; 992 or 1008",
        ),
        (
            "qwen-image",
            |p| (p.guidance_scale, p.true_cfg_scale) = (Some(4.0), Some(3.0)),
            "--true-cfg-scale 3 and --guidance-scale 4: Qwen-Image has one guidance",
        ),
        ("qwen-image", |p| p.max_sequence_length = Some(1025), "Qwen-Image reads 1 to 1024 tokens"),
        ("qwen-image", |p| p.cfg_truncation = Some(0.5), "--cfg-truncation 0.5"),
    ];
    let mut wrong = vec![];
    for (model, change, wanted) in rows {
        match plan_generate(&plan_for(model, *change)) {
            Err(e) if e.to_string().contains(wanted) => {}
            Err(e) => wrong.push(format!("wanted {wanted:?}, got {e}")),
            Ok(_) => wrong.push(format!("wanted {wanted:?}, got a plan")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn guidance_equals_the_pipeline() {
    let nothing = GuidanceRequest::default();
    let scale = |scale| GuidanceRequest { scale: Some(scale), ..nothing };
    let true_cfg = |scale| GuidanceRequest { true_cfg: Some(scale), ..nothing };
    let negative = GuidanceRequest { negative: true, ..nothing };
    let rows = [
        ("flux2-dev", nothing, Guidance::Embedded(4.0), ""),
        ("flux2-dev", scale(2.5), Guidance::Embedded(2.5), ""),
        ("flux2-klein", nothing, Guidance::None, ""),
        ("flux2-klein", scale(4.0), Guidance::None, ""),
        ("flux2-klein-base", nothing, Guidance::Cfg { scale: 4.0, embedded: None }, ""),
        ("flux2-klein-base", scale(1.0), Guidance::None, ""),
        ("qwen-image", nothing, Guidance::None, " "),
        ("qwen-image", negative, Guidance::TokenNorm { scale: 4.0 }, " "),
        ("qwen-image", scale(3.0), Guidance::TokenNorm { scale: 3.0 }, " "),
        ("qwen-image", true_cfg(3.0), Guidance::TokenNorm { scale: 3.0 }, " "),
        ("qwen-image", GuidanceRequest { true_cfg: Some(1.0), ..negative }, Guidance::None, " "),
    ];
    let rows = rows.map(|row| (row, Convention::Diffusers));
    let sglang = (("qwen-image", nothing, Guidance::TokenNorm { scale: 4.0 }, " "), Convention::Sglang);
    let mut wrong = vec![];
    for ((model, request, guidance, against), convention) in rows.into_iter().chain([sglang]) {
        let folder = ModelFolder::open(&Path::new("tests/goldens").join(model).join("model")).unwrap();
        let family = family::open(&folder, &Overrides { convention, ..Overrides::default() }).unwrap();
        let found = (family.guidance(request).unwrap(), family.negative_prompt());
        let reported = request.true_cfg.or(request.scale).filter(|_| found.0 != Guidance::None);
        let scale = found.0.scale();
        let fits = reported.map_or(scale == 1.0 || scale == 4.0, |reported| reported == scale);
        if found != (guidance, against) || !fits {
            wrong.push(format!("{model} {request:?}: {found:?}, wanted {guidance:?} against {against:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn splits_equal_the_published_table() {
    let rows = [
        ("flux2-klein", 0.05, "18@32x32 + 12@64x64"),
        ("flux2-klein", 0.10, "20@32x32 + 10@64x64"),
        ("qwen-image", 0.05, "13@64x64 + 17@128x128"),
        ("qwen-image", 0.10, "16@64x64 + 14@128x128"),
        ("qwen-image", 0.20, "19@64x64 + 11@128x128"),
    ];
    let mut wrong = vec![];
    for (model, delta, wanted) in rows {
        let mut plan = plan_for(model, |p| (p.steps, p.progressive.mode) = (Some(30), Mode::DctRewind));
        plan.progressive.delta = delta;
        let stages = plan_generate(&plan).unwrap().stages;
        let found: Vec<String> = stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        if found.join(" + ") != wanted || stages.iter().any(|s| s.flop.is_none()) {
            wrong.push(format!("{model} {delta}: wanted {wanted}, got {}", found.join(" + ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
