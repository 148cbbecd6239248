//! Settings that cannot change a run: each is named in a warning, or refused.
//!
//! `GENERATE` and `ENHANCE` have a row for every field of a plan. A test compares the rows with the serialized plans, so that a
//! new field needs a row. Flags whose values do not reach the plan are reported by [`warn_unused`].

use serde::Serialize;
use serde_json::Value;

use super::{EnhancePlan, GeneratePlan};
use crate::error::{Error, Result};

/// What a run uses, as far as it is known before weights are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    /// Latents grow.
    pub growth: bool,
    /// Guidance runs the transformer with the negative prompt.
    pub negative_prompt: bool,
    /// The guidance scale changes the guidance.
    pub guidance_scale: bool,
    /// Noise is drawn in bf16, which depends on torch's version.
    pub bf16_noise: bool,
    /// The VAE works in tiles.
    pub vae_tiles: bool,
    /// A network upscales.
    pub upscaling_network: bool,
    /// Refinement runs.
    pub refinement: bool,
    /// Videos are encoded.
    pub videos: bool,
    /// Pictures are encoded in a format with a quality setting.
    pub lossy_pictures: bool,
    /// Files are written.
    pub files: bool,
    /// A rate factor is given.
    pub crf: bool,
}

/// Whether a field that is not at its default has an effect.
enum Verdict {
    Used,
    Unused(&'static str),
    Refused(&'static str),
}

/// `None`: the field always has an effect, or the request is refused elsewhere.
type Rule = Option<fn(&Uses, &Value) -> Verdict>;

/// A field of a plan as a JSON pointer, its flag, and its rule. The pointer of an object covers all of its fields.
type Field = (&'static str, &'static str, Rule);

const USED: Rule = None;

fn needs(used: bool, why: &'static str) -> Verdict {
    if used { Verdict::Used } else { Verdict::Unused(why) }
}

const GROWTH: Rule = Some(|u, _| needs(u.growth, "it requires --progressive-mode dct or dct_rewind"));
const NEGATIVE: Rule =
    Some(|u, _| needs(u.negative_prompt, "no guidance of this run uses it; see --guidance-scale and --true-cfg-scale"));
const SCALE: Rule = Some(|u, value| {
    // A scale of at most 1 asks for no guidance.
    let off = value.as_f64().is_some_and(|scale| scale <= 1.0);
    needs(u.guidance_scale || off, "the model is distilled, or has another guidance; see --true-cfg-scale")
});
const BATCH: Rule = Some(|u, _| needs(u.negative_prompt, "the run has no second prediction"));
const NOISE: Rule = Some(|u, value| {
    let other = value.get("cpu").is_none_or(|stream| stream == "current");
    needs(other || u.bf16_noise, "only bf16 noise depends on torch's version")
});
const VAE_TILE: Rule = Some(|u, _| needs(u.vae_tiles, "the VAE works untiled; --vae-tiling on tiles it"));
const TILE: Rule = Some(|u, _| needs(u.upscaling_network, "no upscaling network runs"));
const VIDEO: Rule = Some(|u, _| needs(u.videos, "no video is written"));
const MOVING: Rule = Some(|u, _| needs(u.videos, "pictures are not interpolated"));
const FILE: Rule = Some(|u, _| needs(u.files, "no file is written"));
const COMPRESSION: Rule = Some(|u, _| {
    let why = if u.crf { "--crf overrides it" } else { "the output format is lossless" };
    needs(u.lossy_pictures || (u.videos && !u.crf), why)
});
const SEED: Rule = Some(|u, _| needs(u.refinement, "it requires --refine"));
const QUALITY: Rule = Some(|_, value| match value.as_str() {
    Some("high") => Verdict::Refused("no approximation is implemented; use lossless or exact"),
    // Nothing is approximated, so both are what every run does.
    _ => Verdict::Used,
});

/// Fields of [`GeneratePlan`](super::GeneratePlan).
const GENERATE: &[Field] = &[
    ("/model", "--model-path", USED),
    ("/prompts", "--prompt", USED),
    ("/negative_prompt", "--negative-prompt", NEGATIVE),
    ("/seeds", "--seed", USED),
    ("/noise", "--generator-torch", NOISE),
    ("/size", "--output-size", USED),
    ("/frames", "--num-frames", USED),
    ("/fps", "--fps", USED),
    ("/steps", "--num-inference-steps", USED),
    ("/guidance_scale", "--guidance-scale", SCALE),
    ("/true_cfg_scale", "--true-cfg-scale", USED),
    ("/cfg_normalization", "--cfg-normalization", USED),
    ("/cfg_truncation", "--cfg-truncation", USED),
    ("/cfg_batch", "--cfg-batch", BATCH),
    ("/flow_shift", "--flow-shift", USED),
    ("/progressive/mode", "--progressive-mode", USED),
    ("/progressive/scales", "--progressive-levels or --progressive-scales", GROWTH),
    ("/progressive/delta", "--progressive-delta", GROWTH),
    ("/progressive/transform", "--progressive-transform", GROWTH),
    ("/progressive/spectrum", "--progressive-spectrum", GROWTH),
    ("/max_sequence_length", "--max-sequence-length", USED),
    ("/start/image", "--image-path", USED),
    ("/start/strength", "--strength", USED),
    ("/vae/tiling", "--vae-tiling", USED),
    ("/vae/tile", "--vae-tile", VAE_TILE),
    ("/vae/overlap", "--vae-tile-overlap", VAE_TILE),
    ("/interpolation/rate", "--frame-interpolation-exp", USED),
    ("/interpolation/scale", "--frame-interpolation-scale", USED),
    ("/interpolation/model", "--frame-interpolation-model-path", USED),
    // Not flags of `generate`.
    ("/interpolation/scene_threshold", "--scene-threshold", USED),
    ("/interpolation/dedup", "--dedup", USED),
    ("/upscaling/target", "--upscaling-scale", USED),
    ("/upscaling/model", "--upscaling-model-path", USED),
    ("/upscaling/filter", "--filter", USED),
    ("/upscaling/tile", "--tile", TILE),
    ("/upscaling/tile_overlap", "--tile-overlap", TILE),
    ("/upscaling/denoise", "--denoise-strength", USED),
    ("/output/destination", "--output-path", USED),
    ("/output/overwrite", "--overwrite", FILE),
    ("/output/compression", "--output-quality or --output-compression", COMPRESSION),
    ("/output/x264_preset", "--x264-preset", VIDEO),
    ("/output/codec", "--codec", VIDEO),
    ("/output/crf", "--crf", VIDEO),
    ("/output/pix_fmt", "--pix-fmt", VIDEO),
    ("/output/encoder_options", "-e", VIDEO),
    ("/output/verify", "--verify", FILE),
    ("/save_latents", "--save-latents", USED),
    ("/perf_dump", "--perf-dump-path", USED),
    ("/quality", "--quality", QUALITY),
    ("/defaults", "--defaults", USED),
    ("/runtime/device", "--device", USED),
    ("/runtime/threads", "--threads", USED),
    ("/runtime/memory_limit", "--memory-limit", USED),
    ("/runtime/library", "--onnxruntime", USED),
    ("/runtime/dtype", "--dtype", USED),
];

/// Fields of [`EnhancePlan`](super::EnhancePlan).
const ENHANCE: &[Field] = &[
    ("/record", "-o", USED),
    ("/interpolation/rate", "--interpolate", MOVING),
    // The row of the rate reports them too.
    ("/interpolation/scale", "--frame-interpolation-scale", USED),
    ("/interpolation/model", "--frame-interpolation-model-path", USED),
    ("/interpolation/scene_threshold", "--scene-threshold", USED),
    ("/interpolation/dedup", "--dedup", USED),
    ("/upscaling/target", "--upscale", USED),
    ("/upscaling/model", "--upscaling-model-path", USED),
    ("/upscaling/filter", "--filter", USED),
    ("/upscaling/tile", "--tile", TILE),
    ("/upscaling/tile_overlap", "--tile-overlap", TILE),
    ("/upscaling/denoise", "--denoise-strength", USED),
    ("/refine/model", "--refine-model", USED),
    ("/refine/by", "--refine-by", USED),
    ("/refine/strength", "--refine-strength", USED),
    ("/refine/stages", "--refine-stages", USED),
    ("/refine/prompt", "--refine-prompt", USED),
    ("/refine/negative_prompt", "--negative-prompt", NEGATIVE),
    ("/refine/steps", "--num-inference-steps", USED),
    ("/refine/guidance_scale", "--guidance-scale", SCALE),
    ("/refine/true_cfg_scale", "--true-cfg-scale", USED),
    ("/refine/tile", "--refine-tile", USED),
    ("/refine/tile_overlap", "--refine-tile-overlap", USED),
    ("/fps", "--fps", USED),
    ("/encoding/destination", "-o", USED),
    ("/encoding/overwrite", "--overwrite", USED),
    ("/encoding/compression", "--output-quality or --output-compression", COMPRESSION),
    ("/encoding/x264_preset", "--x264-preset", VIDEO),
    ("/encoding/codec", "--codec", VIDEO),
    ("/encoding/crf", "--crf", VIDEO),
    ("/encoding/pix_fmt", "--pix-fmt", VIDEO),
    ("/encoding/encoder_options", "-e", VIDEO),
    ("/encoding/verify", "--verify", USED),
    ("/cut/start", "--start", USED),
    ("/cut/end", "--end", USED),
    ("/cut/chunk", "--chunk", VIDEO),
    ("/batch/skip_existing", "--skip-existing", USED),
    ("/batch/jobs", "--jobs", USED),
    ("/batch/fail_fast", "--fail-fast", USED),
    ("/batch/report", "--report", USED),
    ("/seed", "--seed", SEED),
    ("/quality", "--quality", QUALITY),
    ("/perf_dump", "--perf-dump-path", USED),
    ("/runtime/device", "--device", USED),
    ("/runtime/threads", "--threads", USED),
    ("/runtime/memory_limit", "--memory-limit", USED),
    ("/runtime/library", "--onnxruntime", USED),
    ("/runtime/dtype", "--dtype", USED),
];

/// Warns of every field of a plan that has no effect: one that differs from the default, and whose rule says so.
///
/// # Errors
/// A field with a refused value.
pub fn check_generate_effects(plan: &GeneratePlan, uses: &Uses) -> Result<()> {
    unused(plan, GENERATE, uses).map(warn)
}

/// As [`check_generate_effects`].
pub fn check_enhance_effects(plan: &EnhancePlan, uses: &Uses) -> Result<()> {
    unused(plan, ENHANCE, uses).map(warn)
}

fn warn(warnings: Vec<String>) {
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// Warns of given flags whose values no plan contains. `flags`: whether each is given, and its name.
pub fn warn_unused(flags: &[(bool, &str)], why: &str) {
    let given: Vec<&str> = flags.iter().filter(|(given, _)| *given).map(|(_, flag)| *flag).collect();
    if !given.is_empty() {
        tracing::warn!("{}", sentence(&given.join(", "), why));
    }
}

fn sentence(flags: &str, why: &str) -> String {
    format!("{flags}: no effect; {why}")
}

fn unused<P: Serialize + Default>(plan: &P, fields: &[Field], uses: &Uses) -> Result<Vec<String>> {
    let json = |plan: &P| {
        serde_json::to_value(plan).map_err(|e| Error::failed(format!("the settings cannot be serialized: {e}")))
    };
    let (given, default) = (json(plan)?, json(&P::default())?);
    let mut warnings = Vec::new();
    for (pointer, flag, rule) in fields {
        let Some(value) = given.pointer(pointer) else { continue };
        if value.is_null() || default.pointer(pointer).is_some_and(|default| default == value) {
            continue;
        }
        match rule.map_or(Verdict::Used, |rule| rule(uses, value)) {
            Verdict::Used => {}
            Verdict::Unused(why) => warnings.push(sentence(flag, why)),
            Verdict::Refused(why) => {
                let value = value.as_str().map_or_else(|| value.to_string(), String::from);
                return Err(Error::usage(format!("{flag} {value}: {why}")));
            }
        }
    }
    Ok(warnings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::plan::{Interpolation, Model, Output, Progressive, Quality, Refine, Start, Upscaling, Vae};

    /// Plans in which no part is absent, so that their JSON has every field.
    fn full() -> (GeneratePlan, EnhancePlan) {
        let (interpolation, upscaling) = (Some(Interpolation::default()), Some(Upscaling::default()));
        let generate = GeneratePlan {
            start: Some(Start::default()),
            interpolation: interpolation.clone(),
            upscaling: upscaling.clone(),
            ..GeneratePlan::default()
        };
        let refine = Some(Refine::default());
        (generate, EnhancePlan { interpolation, upscaling, refine, ..EnhancePlan::default() })
    }

    /// Adds the faults of a JSON value: leaves without a row. Removes the rows that it meets from `rows`.
    fn compare(at: &str, value: &Value, rows: &mut BTreeSet<&str>, all: &[Field], faults: &mut Vec<String>) {
        if all.iter().any(|(pointer, ..)| *pointer == at) {
            rows.remove(at);
            return;
        }
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map) => map.iter().for_each(|(k, v)| compare(&format!("{at}/{k}"), v, rows, all, faults)),
            None => faults.push(format!("{at} has no row: say when it has an effect")),
        }
    }

    #[test]
    fn every_field_has_a_row() {
        let (generate, enhance) = full();
        let mut faults = Vec::new();
        for (value, all) in
            [(serde_json::to_value(generate).unwrap(), GENERATE), (serde_json::to_value(enhance).unwrap(), ENHANCE)]
        {
            let mut rows: BTreeSet<&str> = all.iter().map(|(pointer, ..)| *pointer).collect();
            compare("", &value, &mut rows, all, &mut faults);
            faults.extend(rows.iter().map(|row| format!("{row} is no field")));
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// A plan with one changed field, by JSON pointer, and the flags that are reported if the run uses nothing, and everything.
    #[test]
    fn fields_without_effect_are_reported() {
        let everything = Uses {
            growth: true,
            negative_prompt: true,
            guidance_scale: true,
            bf16_noise: true,
            vae_tiles: true,
            upscaling_network: true,
            refinement: true,
            videos: true,
            lossy_pictures: true,
            files: true,
            crf: false,
        };
        let changes = [
            json!(null),
            json!(7),
            json!(0.5),
            json!(4.0),
            json!("other"),
            json!(true),
            json!(["a"]),
            json!({ "cpu": "old" }),
        ];
        let mut faults = Vec::new();
        for all in [GENERATE, ENHANCE] {
            for (pointer, flag, rule) in all {
                let Some(rule) = rule else { continue };
                let unused = changes.iter().any(|value| matches!(rule(&Uses::default(), value), Verdict::Unused(_)));
                let used = changes.iter().all(|value| matches!(rule(&everything, value), Verdict::Used));
                let refused = matches!(rule(&everything, &json!("high")), Verdict::Refused(_));
                if !used || !(unused || refused) {
                    faults.push(format!("{pointer} ({flag}): used {used}, unused {unused}, refused {refused}"));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn reports() {
        let plan = GeneratePlan::default;
        let progressive = Progressive { delta: 0.05, ..Progressive::default() };
        let output = |output| GeneratePlan { output, ..plan() };
        let video = Uses { videos: true, files: true, ..Uses::default() };
        let mut faults = Vec::new();
        for (plan, uses, want) in [
            (plan(), Uses::default(), &[][..]),
            (GeneratePlan { progressive: progressive.clone(), ..plan() }, Uses::default(), &["--progressive-delta: "]),
            (GeneratePlan { progressive, ..plan() }, Uses { growth: true, ..Uses::default() }, &[]),
            (GeneratePlan { negative_prompt: Some("fog".into()), ..plan() }, Uses::default(), &["--negative-prompt: "]),
            (GeneratePlan { guidance_scale: Some(4.0), ..plan() }, Uses::default(), &["--guidance-scale: "]),
            (GeneratePlan { guidance_scale: Some(1.0), ..plan() }, Uses::default(), &[]),
            (
                GeneratePlan { vae: Vae { tile: Some(64), overlap: Some(8), ..Vae::default() }, ..plan() },
                Uses::default(),
                &["--vae-tile: ", "--vae-tile-overlap: "],
            ),
            (output(Output { codec: Some("h264".into()), ..Output::default() }), Uses::default(), &["--codec: "]),
            (output(Output { codec: Some("h264".into()), ..Output::default() }), video, &[]),
            (
                output(Output { compression: Some(9), crf: Some(9.0), ..Output::default() }),
                Uses { crf: true, ..video },
                &["--output-quality or --output-compression: no effect; --crf overrides it"],
            ),
            (GeneratePlan { quality: Quality::Exact, ..plan() }, Uses::default(), &[]),
            (GeneratePlan { quality: Quality::High, ..plan() }, Uses::default(), &["--quality high: no approximation"]),
            (GeneratePlan { model: Model { name: "x".into(), ..Model::default() }, ..plan() }, Uses::default(), &[]),
        ] {
            let got = unused(&plan, GENERATE, &uses).unwrap_or_else(|e| vec![e.to_string()]);
            if got.len() != want.len() || got.iter().zip(want).any(|(got, want)| !got.starts_with(want)) {
                faults.push(format!("expected {want:?}, got {got:?}"));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
