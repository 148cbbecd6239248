//! Which of torch's streams a run draws from; the streams themselves are held against torch in `tests/schedule.rs`.

use std::path::Path;

use crescendo::{
    pipeline::{Context, generate},
    plan::{Destination, Generator, Gpu, Precision, Torch},
    progress::Silent,
    schedule::{BfStream, NoiseSource},
    tensor::DType,
    weights::Checkpoint,
};

use crate::{floats, plans};

#[test]
fn a_run_draws_from_the_stream_that_was_asked_for() {
    let cuda = |sms, threads_per_sm| NoiseSource::Cuda { threads_per_sm, sms };
    // So few threads that already this picture's noise takes each of them several times.
    let small = Gpu { sms: 1, threads_per_sm: 256 };
    let rows = [
        (Generator::Cpu { torch: Torch::Current }, NoiseSource::Cpu(BfStream::Current)),
        (Generator::Cpu { torch: Torch::Old }, NoiseSource::Cpu(BfStream::Old)),
        (Generator::Cuda(Gpu::HOPPER), cuda(132, 2048)),
        (Generator::Cuda(small), cuda(1, 256)),
    ];
    let (mut wrong, mut seen) = (vec![], vec![]);
    for (generator, source) in rows {
        let temp = tempfile::tempdir().unwrap();
        let mut plan = plans::generate(Path::new("tests/goldens/flux1-dev/model"), "fox");
        (plan.size, plan.steps, plan.generator) = (Some((128, 96)), Some(1), generator);
        plan.runtime.dtype = Precision::Bf16;
        plan.output.destination = Destination::Nowhere;
        plan.save_latents = Some(temp.path().join("latents.safetensors"));
        generate(&plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
        let found = floats(&Checkpoint::open(&temp.path().join("latents.safetensors")).unwrap(), "noise");
        let wanted = source.seeded(42).randn(&[found.len()], DType::BF16).unwrap().into_raw_vec_and_offset().0;
        if found != wanted || seen.contains(&found) {
            wrong.push(format!("{generator:?}: begins with {:?}, wanted {:?}", &found[..3], &wanted[..3]));
        }
        seen.push(found);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
