//! Compares Qwen-Image's networks with diffusers (`scripts/reference/families.py`).

use crescendo::{
    compile,
    compile::Subgraph,
    family::{self, Overrides},
    model::ModelFolder,
    tensor::Tensor,
};

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

/// Rows and columns of tokens in the full runs.
const RUNS: [(&str, usize, usize); 2] = [("fullres-64x96", 4, 6), ("fullres-96x64", 6, 4)];

#[test]
fn transformer_velocity_equals_diffusers() {
    let mut table = Table::default();
    let model = goldens("qwen-image/model");
    let family = family::open(&ModelFolder::open(&model).unwrap(), &Overrides::default()).unwrap();
    for (name, target) in TARGETS {
        for (case, rows, columns) in RUNS {
            let golden = Golden::open(&format!("qwen-image/runs/{case}.safetensors"));
            let of = |what: &str| Tensor::F32(golden.f32(&format!("dit.in.{what}")));
            let text = of("encoder_hidden_states");
            let mut inputs = family.positions(&[1, 16, 2 * rows, 2 * columns], text.shape()[1]);
            inputs.extend([("latents", of("hidden_states")), ("text", text), ("sigma", of("timestep"))]);
            for tokens in [None, Some(rows * columns)] {
                let (folder, class) = (model.join("transformer"), "QwenImageTransformer2DModel");
                let built = compile::component(&folder, class, Subgraph::Full, tokens, target);
                let got = built.and_then(|m| load(&m)).map_err(|e| e.to_string());
                let got = got.and_then(|mut net| output(&run(&mut net, &inputs), "velocity"));
                let row = format!("qwen-image {name} {case} {tokens:?}");
                table.compare(row, got, &golden.f32("dit.out"), NETWORK);
            }
        }
    }
    table.finish();
}
