//! Runs that start from a picture, against diffusers' encoder.

use crescendo::{
    media::picture,
    pipeline::{Context, generate},
    plan::Start,
    progress::Silent,
    tensor::{Frame, Samples},
    weights::Checkpoint,
};
use std::path::Path;

use super::{floats, plans, relative};

/// Rows: strength, rows and columns of the run against those of the picture, limit. At strength 0 the finished latent is the picture's,
/// as the encoder gives it (the picture is rounded to 8 bits on its way in); at 1 the picture is noised away.
#[test]
fn a_picture_is_the_start() {
    let golden = Checkpoint::open(Path::new("tests/goldens/flux1-dev/vae.safetensors")).unwrap();
    let (h, w) = (64, 96);
    let image = floats(&golden, "encode.0.image");
    // scaling_factor and shift_factor of the tiny VAE are FLUX.1's.
    let wanted: Vec<f32> = floats(&golden, "encode.0.mean").iter().map(|m| (m - 0.1159) * 0.3611).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("start.png");
    let samples = (0..h * w * 3).map(|i| ((image[i % 3 * h * w + i / 3] * 0.5 + 0.5) * 255.0).round() as u8).collect();
    let frame = Frame { width: w, height: h, channels: 3, samples: Samples::U8(samples) };
    picture::write(&file, &frame.into(), &picture::PictureOptions::default()).unwrap();
    let mut wrong = Vec::new();
    for (strength, near) in [(0.0, true), (1.0, false)] {
        let mut plan = plans::generate(Path::new("tests/goldens/flux1-dev/model"), "a fox");
        plan.size = Some((h, w));
        plan.steps = Some(3);
        plan.max_sequence_length = Some(16);
        plan.start = Some(Start { image: file.clone(), strength: Some(strength) });
        plan.save_latents = Some(folder.path().join("latents.safetensors"));
        generate(&plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
        let ours = Checkpoint::open(plan.save_latents.as_ref().unwrap()).unwrap();
        let error = relative(&floats(&ours, "latents"), &wanted);
        if (error < 2e-2) != near {
            wrong.push(format!("strength {strength}: the finished latent differs from the picture's by {error:.1e}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
