//! The noise stream of a run. `tests/schedule.rs` compares the streams with torch.

use std::path::Path;

use crescendo::{
    pipeline::{Context, generate},
    progress::Silent,
    schedule::{BfStream, Gpu, NoiseSource},
    tensor::DType,
    weights::Checkpoint,
};

use crate::{floats, plans};

#[test]
fn a_run_draws_from_the_selected_stream() {
    // Few threads: the noise of this picture takes several normals from each.
    let small = Gpu { sms: 1, threads_per_sm: 256 };
    let rows = [
        NoiseSource::Cpu(BfStream::Current),
        NoiseSource::Cpu(BfStream::Old),
        NoiseSource::Cuda(Gpu::HOPPER),
        NoiseSource::Cuda(small),
    ];
    let (mut wrong, mut seen) = (vec![], vec![]);
    for source in rows {
        let temp = tempfile::tempdir().unwrap();
        let mut plan = plans::generate(Path::new("tests/goldens/flux1-dev/model"), "fox");
        (plan.size, plan.steps, plan.noise) = (crescendo::plan::Sides::of(128, 96), Some(1), source);
        plan.runtime.dtype = Some(DType::BF16);
        plan.save_latents = Some(temp.path().join("latents.safetensors"));
        generate(&plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
        let found = floats(&Checkpoint::open(&temp.path().join("latents.safetensors")).unwrap(), "noise");
        let wanted = source.seeded(42).randn(&[found.len()], DType::BF16).unwrap().into_raw_vec_and_offset().0;
        if found != wanted || seen.contains(&found) {
            wrong.push(format!("{source:?}: begins with {:?}, wanted {:?}", &found[..3], &wanted[..3]));
        }
        seen.push(found);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
