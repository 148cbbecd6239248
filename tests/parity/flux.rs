//! Compares FLUX.1's networks with transformers and diffusers (`scripts/reference/flux1.py`).

use crescendo::{
    Result, compile,
    compile::Subgraph,
    family::{self, Family, Overrides},
    model::ModelFolder,
    onnx::{Model, Target},
    runtime::{Load, Network},
    tensor::Tensor,
};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use serde::Deserialize;

use crate::table::{Golden, NETWORK, TARGETS, Table, cases, engine, goldens, load, output, run};

const CLASSES: [(&str, &str); 4] = [
    ("text_encoder", "CLIPTextModel"),
    ("text_encoder_2", "T5EncoderModel"),
    ("transformer", "FluxTransformer2DModel"),
    ("vae", "AutoencoderKL"),
];

#[derive(Deserialize)]
struct Case {
    rows: usize,
    columns: usize,
    text: usize,
    #[serde(default)]
    guidance: Option<Vec<f32>>,
}

fn built(model: &str, component: &str, part: Subgraph, tokens: Option<usize>, target: Target) -> Result<Model> {
    let class = CLASSES.iter().find(|(name, _)| *name == component).unwrap().1;
    compile::component(&goldens(model).join("model").join(component), class, part, tokens, target)
}

fn network(component: &str, part: Subgraph, target: Target) -> Result<Network> {
    built("flux1-dev", component, part, None, target).and_then(|m| load(&m))
}

/// Returns the position of the first maximum id: the end of CLIP's text.
fn end_positions(ids: &ArrayD<i64>) -> Tensor {
    let end = |row: ndarray::ArrayViewD<'_, i64>| {
        let most = row.iter().max().copied().unwrap_or(0);
        row.iter().position(|&id| id == most).unwrap_or(0) as i64
    };
    let ends: Vec<i64> = ids.outer_iter().map(end).collect();
    ArrayD::from_shape_vec(IxDyn(&[ends.len()]), ends).unwrap().into()
}

/// Concatenates items along the first axis.
fn stack<T: Clone>(rows: Vec<ArrayD<T>>) -> ArrayD<T> {
    concatenate(Axis(0), &rows.iter().map(|r| r.view()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn clip_hidden_states_and_pooled_output_equal_transformers() {
    let golden = Golden::open("flux1-dev/text.safetensors");
    let all = |name: &str| stack((0..4).map(|n| golden.f32(&format!("{n}.clip.{name}"))).collect());
    let mut table = Table::default();
    for (name, target) in TARGETS {
        let mut net = match network("text_encoder", Subgraph::Full, target) {
            Ok(net) => net,
            Err(e) => {
                table.row(false, format!("clip {name}: {e}"));
                continue;
            }
        };
        let mut check = |what: String, ids: ArrayD<i64>, states: ArrayD<f32>, pooled: ArrayD<f32>| {
            let end = end_positions(&ids);
            let out = run(&mut net, &[("ids", ids.into()), ("end", end)]);
            let pick = |o: &str| output(&out, o);
            table.compare(format!("clip {name} {what} states"), pick("states"), &states, NETWORK);
            table.compare(format!("clip {name} {what} pooled"), pick("pooled"), &pooled, NETWORK);
        };
        for n in 0..4 {
            let of = |what: &str| golden.f32(&format!("{n}.clip.{what}"));
            check(format!("prompt {n}"), golden.i64(&format!("{n}.clip.ids")), of("hidden"), of("pooled"));
        }
        let ids = stack((0..4).map(|n| golden.i64(&format!("{n}.clip.ids"))).collect());
        check("all at once".into(), ids, all("hidden"), all("pooled"));
    }
    table.finish();
}

#[test]
fn t5_hidden_states_equal_transformers() {
    let golden = Golden::open("flux1-dev/text.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        match network("text_encoder_2", Subgraph::Full, target) {
            Err(e) => table.row(false, format!("t5 {name}: {e}")),
            Ok(mut net) => {
                for n in 0..4 {
                    let ids = golden.i64(&format!("{n}.t5.ids"));
                    let got = output(&run(&mut net, &[("ids", ids.into())]), "states");
                    let want = golden.f32(&format!("{n}.t5.states"));
                    table.compare(format!("t5 {name} prompt {n}"), got, &want, NETWORK);
                }
            }
        }
    }
    table.finish();
}

/// Returns the inputs of a case. The family computes the positions.
fn transformer_inputs(family: &dyn Family, golden: &Golden, n: usize, case: &Case) -> Vec<(&'static str, Tensor)> {
    let of = |what: &str| Tensor::F32(golden.f32(&format!("{n}.in.{what}")));
    let mut inputs = vec![
        ("latents", of("hidden_states")),
        ("text", of("encoder_hidden_states")),
        ("pooled", of("pooled_projections")),
        ("sigma", of("timestep")),
    ];
    if case.guidance.is_some() {
        inputs.push(("guidance", of("guidance")));
    }
    inputs.extend(family.positions(&[1, 4, 2 * case.rows, 2 * case.columns], case.text));
    inputs
}

#[test]
fn transformer_velocity_equals_diffusers() {
    let mut table = Table::default();
    for model in ["flux1-dev", "flux1-schnell"] {
        let golden = Golden::open(&format!("{model}/transformer.safetensors"));
        let rows: Vec<Case> = cases(&format!("{model}/transformer.json"));
        let family =
            family::open(&ModelFolder::open(&goldens(model).join("model")).unwrap(), &Overrides::default()).unwrap();
        for (name, target) in TARGETS {
            for bounded_casts in [false, true] {
                let how = Load { bounded_casts, ..Load::default() };
                let model_of = |tokens| built(model, "transformer", Subgraph::Full, tokens, target);
                let mut compare = |net: &Result<Model>, n: usize, what: &str| {
                    let inputs = transformer_inputs(family.as_ref(), &golden, n, &rows[n]);
                    let got = net.as_ref().map_err(ToString::to_string).and_then(|net| {
                        let mut net = engine().load("transformer", &net.bytes, &how).map_err(|e| e.to_string())?;
                        output(&run(&mut net, &inputs), "velocity")
                    });
                    let want = golden.f32(&format!("{n}.out"));
                    let casts = if bounded_casts { " bounded" } else { "" };
                    table.compare(format!("{model} {name}{casts} case {n}{what}"), got, &want, NETWORK);
                };
                let dynamic = model_of(None);
                for (n, case) in rows.iter().enumerate() {
                    compare(&dynamic, n, "");
                    compare(&model_of(Some(case.rows * case.columns)), n, " fixed");
                }
            }
        }
    }
    table.finish();
}

#[test]
fn vae_equals_diffusers() {
    let golden = Golden::open("flux1-dev/vae.safetensors");
    let mut table = Table::default();
    for (name, target) in TARGETS {
        let rows = [
            (Subgraph::Decoder, "decode", "latents", &[("picture", "image")][..]),
            (Subgraph::Encoder, "encode", "picture", &[("mean", "mean"), ("logvar", "logvar")][..]),
        ];
        for (part, what, input, outputs) in rows {
            let mut net = network("vae", part, target);
            for n in 0..2 {
                let from = if what == "decode" { "latents" } else { "image" };
                let given = Tensor::F32(golden.f32(&format!("{what}.{n}.{from}")));
                let out = net.as_mut().map_err(|e| e.to_string()).and_then(|net| run(net, &[(input, given)]));
                for (ours, theirs) in outputs {
                    let got = output(&out, ours);
                    let want = golden.f32(&format!("{what}.{n}.{theirs}"));
                    table.compare(format!("vae {name} {what} {n} {ours}"), got, &want, NETWORK);
                }
            }
        }
    }
    table.finish();
}
