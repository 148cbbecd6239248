//! Compares Z-Image's transformer with diffusers, in both calls of the first step of each run (`scripts/reference/families.py`).

use crescendo::{
    compile::{self, Subgraph},
    family::{self, Overrides},
    model::ModelFolder,
    tensor::Tensor,
};
use ndarray::Axis;

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

#[test]
fn transformer_velocity_equals_diffusers() {
    let mut table = Table::default();
    let model = goldens("z-image/model");
    let family = family::open(&ModelFolder::open(&model).unwrap(), &Overrides::default()).unwrap();
    for run_name in ["fullres-64x96", "fullres-96x64"] {
        let golden = Golden::open(&format!("z-image/runs/{run_name}.safetensors"));
        for (on, target) in TARGETS {
            for j in 0..2 {
                // [c, 1, h, w]: diffusers' input shape.
                let spatial = |name: &str| golden.f32(&format!("{name}.{j}")).index_axis_move(Axis(1), 0);
                let latent = spatial("dit.in.0").insert_axis(Axis(0));
                let text = golden.f32(&format!("dit.in.2.{j}"));
                let rows = text.shape()[0];
                let sigma = 1.0 - golden.f32("dit.in.1")[[j]];
                let mut inputs = vec![("text", Tensor::F32(text.insert_axis(Axis(0))))];
                inputs.extend(family.step_inputs(&latent, sigma, None));
                inputs.extend(family.positions(latent.shape(), rows));
                let want = -spatial("dit.out").insert_axis(Axis(0));
                let tokens = family.tokens(latent.shape());
                for (what, tokens) in [("", None), (" fixed", Some(tokens))] {
                    let class = "ZImageTransformer2DModel";
                    let built = compile::component(&model.join("transformer"), class, Subgraph::Full, tokens, target);
                    let out = built.and_then(|m| load(&m)).map_err(|e| e.to_string());
                    let out = out.and_then(|mut net| output(&run(&mut net, &inputs), "velocity"));
                    let out = out.and_then(|v| family.velocity(&v, latent.shape()).map_err(|e| e.to_string()));
                    table.compare(format!("{run_name} {on} prompt {j}{what}"), out, &want, NETWORK);
                }
            }
        }
    }
    table.finish();
}
