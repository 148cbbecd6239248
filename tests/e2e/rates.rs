//! Factors of interpolation above 16.

use crate::{Bench, done, ffmpeg, probe, report};

/// Rows: the rate, whether `--force` is given, the frames of the output (`None`: refused), and its rate.
#[test]
fn large_factors_need_force() {
    let bench = Bench::new();
    let clip = bench.path("clip.mkv");
    // 4 frames, so that 2 s become 2 s at the new rate.
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=64x48:r=2:d=2", "-c:v", "ffv1", clip.to_str().unwrap()]);
    let mut bad = Vec::new();
    for (k, (rate, force, frames, wanted)) in [
        ("32fps", false, Some(64), "32/1"),
        ("16x", false, Some(49), "32/1"),
        (
            "40fps",
            false,
            None,
            "--interpolate 40fps makes 20 frames of each frame; give a factor of at most 16, or --force",
        ),
        ("40fps", true, Some(80), "40/1"),
        (
            "34fps",
            false,
            None,
            "--interpolate 34fps makes 17 frames of each frame; give a factor of at most 16, or --force",
        ),
        (
            "32.1fps",
            false,
            None,
            "--interpolate 32.1fps makes 16.05 frames of each frame; give a factor of at most 16, or --force",
        ),
        ("20x", false, None, "or --force"),
        ("20x", true, Some(61), "40/1"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("out/{k}.mkv");
        let force = if force { "--force" } else { "" };
        let args = format!(
            "enhance clip.mkv -o {name} --interpolate {rate} {force} --frame-interpolation-model-path {{rife}} --codec ffv1"
        );
        let plan = bench.run(&format!("plan {args}"));
        let run = bench.run(&args);
        match frames {
            Some(frames) => {
                done(&run);
                let stream = probe(&bench.path(&name), "v:0");
                let planned = String::from_utf8_lossy(&plan.out);
                let found = (stream["nb_read_frames"].as_str(), stream["r_frame_rate"].as_str());
                let good = found == (Some(frames.to_string().as_str()), Some(wanted));
                if !good || !planned.contains(&format!("frames      {frames}\n")) {
                    bad.push(format!("{args}: wanted {frames} at {wanted}, got {found:?}, plan {planned}"));
                }
                std::fs::remove_file(bench.path(&name)).unwrap();
            }
            None => {
                // Of a rate, the factor follows from the input.
                let code = if rate.ends_with('x') { 1 } else { 3 };
                bad.extend(bench.fault(&args, &run, code, &[wanted]));
                bad.extend(bench.fault(&format!("plan {args}"), &plan, code, &[wanted]));
            }
        }
    }
    report(bad);
}
