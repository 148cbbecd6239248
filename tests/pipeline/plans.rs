//! Plans with nothing asked for.

use std::path::Path;

use crescendo::plan::{
    Defaults, Destination, Device, GeneratePlan, Generator, Mode, Model, Output, Precision, Progressive, Quality,
    RuntimeOptions, Scales, Torch, Transform, Vae, VaeTiling,
};

pub fn runtime() -> RuntimeOptions {
    RuntimeOptions {
        device: Device::Cpu,
        dtype: Precision::Auto,
        threads: None,
        memory_limit: None,
        onnxruntime: None,
        offline: true,
    }
}

pub fn output() -> Output {
    Output {
        destination: Destination::Nowhere,
        overwrite: false,
        compression: None,
        x264_preset: None,
        codec: None,
        crf: None,
        pix_fmt: None,
        encoder_options: vec![],
        verify: false,
    }
}

pub fn generate(model: &Path, prompt: &str) -> GeneratePlan {
    GeneratePlan {
        model: Model { name: model.display().to_string(), known: None, path: model.to_path_buf() },
        prompts: vec![prompt.into()],
        negative_prompt: None,
        seeds: vec![42],
        generator: Generator::Cpu { torch: Torch::Current },
        size: None,
        frames: None,
        fps: None,
        steps: None,
        guidance_scale: None,
        true_cfg_scale: None,
        cfg_normalization: None,
        cfg_truncation: None,
        cfg_batch: false,
        flow_shift: None,
        max_sequence_length: None,
        progressive: Progressive {
            mode: Mode::FullRes,
            scales: Scales::Levels(1),
            delta: 0.01,
            transform: Transform::Dct,
            spectrum: None,
        },
        start: None,
        vae: Vae { tiling: VaeTiling::Auto, tile: None, overlap: None },
        interpolation: None,
        upscaling: None,
        output: output(),
        save_latents: None,
        perf_dump: None,
        quality: Quality::Lossless,
        defaults: Defaults::Diffusers,
        runtime: runtime(),
    }
}
