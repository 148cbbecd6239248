//! Compares FLUX.2's networks with diffusers (`scripts/reference/{families,flux2}.py`).

use crescendo::{
    Result, compile,
    compile::Subgraph,
    family::{self, Overrides},
    model::ModelFolder,
    onnx::{Model, Target},
    tensor::Tensor,
};

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

fn transformer(model: &str, tokens: Option<usize>, target: Target) -> Result<Model> {
    let folder = goldens(model).join("model/transformer");
    compile::component(&folder, "Flux2Transformer2DModel", Subgraph::Full, tokens, target)
}

/// Rows and columns of tokens in the full runs.
const RUNS: [(&str, usize, usize); 2] = [("fullres-64x96", 4, 6), ("fullres-96x64", 6, 4)];

#[test]
fn transformer_velocity_equals_diffusers() {
    let mut table = Table::default();
    for model in ["flux2-klein", "flux2-dev"] {
        let family =
            family::open(&ModelFolder::open(&goldens(model).join("model")).unwrap(), &Overrides::default()).unwrap();
        for ((name, target), (case, rows, columns)) in TARGETS.into_iter().flat_map(|t| RUNS.map(|r| (t, r))) {
            let golden = Golden::open(&format!("{model}/runs/{case}.safetensors"));
            let of = |what: &str| Tensor::F32(golden.f32(&format!("dit.in.{what}")));
            let text = of("encoder_hidden_states");
            let mut inputs = family.positions(&[1, 16, rows, columns], text.shape()[1]);
            inputs.extend([("latents", of("hidden_states")), ("text", text), ("sigma", of("timestep"))]);
            if golden.has("dit.in.guidance") {
                inputs.push(("guidance", of("guidance")));
            }
            for tokens in [None, Some(rows * columns)] {
                let net = transformer(model, tokens, target).and_then(|m| load(&m)).map_err(|e| e.to_string());
                let got = net.and_then(|mut net| output(&run(&mut net, &inputs), "velocity"));
                table.compare(format!("{model} {name} {case} {tokens:?}"), got, &golden.f32("dit.out"), NETWORK);
            }
        }
    }
    table.finish();
}

#[test]
fn vae_equals_diffusers() {
    let golden = Golden::open("flux2-klein/vae.safetensors");
    let folder = goldens("flux2-klein/model/vae");
    let mut table = Table::default();
    let rows = [
        (Subgraph::Decoder, "decode", "latents", "latents", "picture", "image"),
        (Subgraph::Encoder, "encode", "picture", "image", "mean", "latents"),
    ];
    for (name, target) in TARGETS {
        for (part, what, input, from, ours, theirs) in rows {
            let model = compile::component(&folder, "AutoencoderKLFlux2", part, None, target);
            let mut net = model.and_then(|m| load(&m));
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
