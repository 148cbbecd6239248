//! FLUX.2's networks against diffusers (`scripts/reference/families.py`).

use crescendo::{
    Result, compile,
    compile::Part,
    family,
    model::ModelFolder,
    onnx::{Model, Target},
    tensor::Tensor,
};

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

fn built(component: &str, class: &str, part: Part, tokens: Option<usize>, target: Target) -> Result<Model> {
    compile::component(&goldens("flux2-klein/model").join(component), class, part, tokens, target)
}

/// Rows and columns of tokens in the full runs.
const RUNS: [(&str, usize, usize); 2] = [("fullres-64x96", 4, 6), ("fullres-96x64", 6, 4)];

#[test]
fn transformer_velocity_equals_diffusers() {
    let mut table = Table::default();
    let family = family::open(&ModelFolder::open(&goldens("flux2-klein/model")).unwrap()).unwrap();
    for (name, target) in TARGETS {
        for (case, rows, columns) in RUNS {
            let golden = Golden::open(&format!("flux2-klein/runs/{case}.safetensors"));
            let of = |what: &str| Tensor::F32(golden.f32(&format!("dit.in.{what}")));
            let text = of("encoder_hidden_states");
            let mut inputs = family.positions(&[1, 16, rows, columns], text.shape()[1]);
            inputs.extend([("latents", of("hidden_states")), ("text", text), ("sigma", of("timestep"))]);
            for tokens in [None, Some(rows * columns)] {
                let model = built("transformer", "Flux2Transformer2DModel", Part::Whole, tokens, target);
                let got = model.and_then(|m| load(&m)).map_err(|e| e.to_string());
                let got = got.and_then(|mut net| output(&run(&mut net, &inputs), "velocity"));
                let row = format!("flux2-klein {name} {case} {tokens:?}");
                table.compare(row, got, &golden.f32("dit.out"), NETWORK);
            }
        }
    }
    table.finish();
}

#[test]
fn autoencoder_equals_diffusers() {
    let golden = Golden::open("flux2-klein/vae.safetensors");
    let mut table = Table::default();
    let rows = [
        (Part::Decoder, "decode", "latents", "latents", "picture", "image"),
        (Part::Encoder, "encode", "picture", "image", "mean", "latents"),
    ];
    for (name, target) in TARGETS {
        for (part, what, input, from, ours, theirs) in rows {
            let mut net = built("vae", "AutoencoderKLFlux2", part, None, target).and_then(|m| load(&m));
            for n in 0..2 {
                let given = Tensor::F32(golden.f32(&format!("{what}.{n}.{from}")));
                let out = net.as_mut().map_err(|e| e.to_string()).and_then(|net| run(net, &[(input, given)]));
                let want = golden.f32(&format!("{what}.{n}.{theirs}"));
                table.compare(format!("vae {name} {what} {n} {ours}"), output(&out, ours), &want, NETWORK);
            }
        }
    }
    table.finish();
}
