//! Every family of transformers in every type and GPU generation, with the small random checkpoints of the goldens.
//!
//! What one denoising step does is the difference between a run of three steps and one of two.

use crate::{
    Bench,
    log::Attention::{self, CuDnn, Efficient, Flash},
    report,
};

/// A family, and what a step of its small checkpoint needs: pictures of 64×96, videos of 5 frames.
struct Family {
    model: &'static str,
    /// The output file and flags.
    form: &'static str,
    /// f32 values that a step copies to the device: all inputs of its calls of the transformer.
    inputs: i64,
    /// f32 values that a step copies to the host: the velocities.
    velocity: i64,
    /// Attention nodes in a step.
    attention: i64,
}

/// f32 values of the inputs: latent, text, rotary tables (cos and sin, half a head per token), time.
const FLUX: Family = Family {
    model: "flux1-dev",
    form: "out.png",
    // Also the pooled text and the guidance.
    inputs: 24 * 16 + 512 * 24 + 2 * (512 + 24) * 8 + 1 + 40 + 1,
    velocity: 24 * 16,
    attention: 2 + 3,
};
const FLUX2: Family = Family {
    model: "flux2-klein",
    form: "out.png",
    inputs: 24 * 16 + 512 * 48 + 2 * (512 + 24) * 8 + 1,
    velocity: 24 * 16,
    attention: 2 + 3,
};
const QWEN_IMAGE: Family = Family {
    model: "qwen-image",
    form: "out.png",
    inputs: 24 * 64 + 6 * 48 + 2 * (6 + 24) * 8 + 1,
    velocity: 24 * 64,
    attention: 2,
};
const Z_IMAGE: Family = Family {
    model: "z-image",
    form: "out.png",
    // Tables of the picture and of the text; tokens in multiples of 32.
    inputs: 24 * 16 + 9 * 40 + 4 * 32 * 8 + 1,
    velocity: 24 * 16,
    attention: 6,
};
const WAN: Family = Family {
    model: "wan",
    form: "out.mkv --num-frames 5 --codec ffv1",
    // Two calls: with the prompt and with the negative one.
    inputs: 2 * (16 * 2 * 8 * 12 + 512 * 24 + 2 * 48 * 8 + 1),
    velocity: 2 * 16 * 2 * 8 * 12,
    // Self-attention and attention to the text in two blocks.
    attention: 2 * 2 * 2,
};

/// f32 values of a picture of 64×96.
const PICTURE: i64 = 3 * 64 * 96;

/// `--dtype`, the GPU's generation, and the attention kernels that are fast there. cuDNN's needs generation 90.
const PLACES: &[(&str, &str, &[Attention])] = &[
    ("auto", "90", &[CuDnn, Flash]),
    ("bf16", "90", &[CuDnn, Flash]),
    ("bf16", "89", &[Flash, Efficient]),
    ("bf16", "86", &[Flash, Efficient]),
    ("bf16", "80", &[Flash, Efficient]),
    ("f32", "90", &[Efficient]),
    ("f32", "80", &[Efficient]),
];

/// More kernels than the probe of a device has, and fewer than any network.
const PROBE_LAUNCHES: i64 = 16;

impl Family {
    fn args(&self, steps: usize, dtype: &str) -> String {
        let Self { model, form, .. } = self;
        format!(
            "generate --model-path {{goldens}}/{model}/model --prompt fox --height 64 --width 96 --dtype {dtype} --overwrite \
             --num-inference-steps {steps} --output-file-path {form}"
        )
    }

    fn check(&self) {
        let (bench, mut bad) = (Bench::new(), Vec::new());
        for (dtype, generation, fast) in PLACES {
            let name = format!("{} {dtype} on {generation}", self.model);
            let [short, long] =
                [2, 3].map(|steps| bench.run(&self.args(steps, dtype), &[("STAND_IN_SM", *generation)]));
            bad.extend(long.faults(&name));
            let found = long.log.attention_more_than(&short.log);
            if !found.keys().all(|kind| fast.contains(kind)) || found.values().sum::<i64>() != self.attention {
                bad.push(format!("{name}: attention {found:?}, wanted {} of {fast:?}", self.attention));
            }
            let (copied, wanted) = (long.log.copied_more_than(&short.log), [4 * self.inputs, 4 * self.velocity]);
            if copied != wanted {
                bad.push(format!("{name}: a step copies {copied:?} bytes to and from the device, wanted {wanted:?}"));
            }
        }
        let refused = bench.run(&self.args(2, "f16"), &[]);
        if refused.code != Some(1)
            || !refused.err.contains("--dtype f16: no published model")
            || refused.log.launches() > PROBE_LAUNCHES
        {
            bad.push(format!(
                "{} f16: exit code {:?}, {} kernels: {}",
                self.model,
                refused.code,
                refused.log.launches(),
                refused.err
            ));
        }
        report(&bad);
    }

    /// A further picture of a prompt: its steps, its latent to the VAE, and its pixels back.
    fn check_picture(&self) -> Vec<String> {
        let bench = Bench::new();
        let [one, two] = [1, 2].map(|count| {
            let args = self.args(2, "auto").replace("--output-file-path out.png", "--output-path out");
            bench.run(&format!("{args} --num-outputs-per-prompt {count}"), &[])
        });
        let copied = two.log.copied_more_than(&one.log);
        let wanted = [4 * (2 * self.inputs + self.velocity), 4 * (2 * self.velocity + PICTURE)];
        let mut bad = two.faults(self.model);
        if copied != wanted {
            bad.push(format!("{}: a picture copies {copied:?} bytes, wanted {wanted:?}", self.model));
        }
        bad
    }
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn flux1_runs_on_fast_kernels() {
    FLUX.check();
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn flux2_runs_on_fast_kernels() {
    FLUX2.check();
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn qwen_image_runs_on_fast_kernels() {
    QWEN_IMAGE.check();
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn z_image_runs_on_fast_kernels() {
    Z_IMAGE.check();
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn wan_runs_on_fast_kernels() {
    WAN.check();
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_picture_crosses_the_bus_once() {
    report(&[FLUX, FLUX2, QWEN_IMAGE, Z_IMAGE].iter().flat_map(Family::check_picture).collect::<Vec<_>>());
}
