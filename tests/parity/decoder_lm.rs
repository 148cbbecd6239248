//! Language models as text encoders, against transformers (`scripts/reference/{families,decoder_lm}.py`): the states that a DiT reads.

use std::path::Path;

use crescendo::{
    compile::{self, Subgraph},
    model::{HiddenStates, Padding},
    onnx::Target,
    tensor::Tensor,
};
use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

struct Row {
    model: &'static str,
    class: &'static str,
    states: HiddenStates,
    /// Template tokens that the DiT does not receive.
    dropped: usize,
}

const ROWS: [Row; 3] = [
    Row {
        model: "z-image",
        class: "Qwen3Model",
        states: HiddenStates { hidden: &[-2], pads: Padding::None },
        dropped: 0,
    },
    Row {
        model: "flux2-klein",
        class: "Qwen3ForCausalLM",
        states: HiddenStates { hidden: &[9, 18, 27], pads: Padding::After },
        dropped: 0,
    },
    Row {
        model: "qwen-image",
        class: "Qwen2_5_VLForConditionalGeneration",
        states: HiddenStates { hidden: &[-1], pads: Padding::None },
        dropped: 34,
    },
];

fn integers(values: &[i64]) -> Tensor {
    ArrayD::from_shape_vec(IxDyn(&[1, values.len()]), values.to_vec()).unwrap().into()
}

/// Rows `from..` of [1, s, d], with or without the first axis as `like` has it.
fn rows(states: ArrayD<f32>, from: usize, like: usize) -> ArrayD<f32> {
    let states = states.slice_axis(Axis(1), Slice::from(from..)).to_owned();
    if like == 2 { states.index_axis_move(Axis(0), 0) } else { states }
}

#[test]
fn language_model_hidden_states_equal_transformers() {
    let mut table = Table::default();
    for Row { model, class, states, dropped } in ROWS {
        let golden = Golden::open(&format!("{model}/text.safetensors"));
        let folder = goldens(model).join("model/text_encoder");
        for (on, target) in TARGETS {
            let built = compile::component(&folder, class, Subgraph::HiddenStates(states), None, target);
            let mut net = match built.and_then(|m| load(&m)) {
                Ok(net) => net,
                Err(e) => {
                    table.row(false, format!("{model} {on}: {e}"));
                    continue;
                }
            };
            for n in 0..3 {
                let ids: Vec<i64> = golden.i64(&format!("{n}.ids")).into_iter().collect();
                let mask = golden.has(&format!("{n}.mask")).then(|| golden.i64(&format!("{n}.mask")).sum() as usize);
                let (text, pads) = ids.split_at(mask.unwrap_or(ids.len()));
                let mut inputs = vec![("ids", integers(text))];
                if states.pads == Padding::After {
                    inputs.push(("pads", integers(pads)));
                }
                let want = golden.f32(&format!("{n}.states"));
                let got = output(&run(&mut net, &inputs), "states").map(|s| rows(s, dropped, want.ndim()));
                table.compare(format!("{model} {on} prompt {n}"), got, &want, NETWORK);
                if states.pads == Padding::After {
                    let inputs = [("ids", integers(text)), ("pads", integers(&pads[..1]))];
                    let got = output(&run(&mut net, &inputs), "states");
                    let want = want.slice_axis(Axis(1), Slice::from(..text.len() + 1)).to_owned();
                    table.compare(format!("{model} {on} prompt {n}, one pad"), got, &want, NETWORK);
                }
            }
        }
    }
    table.finish();
}

/// FLUX.2-dev pads on the left and masks the padding.
#[test]
fn mistral_hidden_states_equal_transformers() {
    let golden = Golden::open("mistral/states.safetensors");
    let states = HiddenStates { hidden: &[1, 2, 3], pads: Padding::Before };
    let mut table = Table::default();
    for layout in ["old", "new"] {
        for (on, target) in TARGETS {
            let class = "Mistral3ForConditionalGeneration";
            let built = compile::component(
                &goldens("mistral").join(layout),
                class,
                Subgraph::HiddenStates(states),
                None,
                target,
            );
            let mut net = built.and_then(|m| load(&m)).map_err(|e| e.to_string());
            for n in 0..3 {
                let ids: Vec<i64> = golden.i64(&format!("{n}.ids")).into_iter().collect();
                let text = golden.i64(&format!("{n}.mask")).sum() as usize;
                let pads = ids.len() - text;
                let given: Vec<i64> = std::iter::once(11).chain(ids[pads..].iter().copied()).collect();
                let out = net.as_mut().map_err(|e| e.clone());
                let out = out.and_then(|net| output(&run(net, &[("ids", integers(&given))]), "states"));
                let whole = out.map(|states| {
                    let (pad, text) = states.view().split_at(Axis(1), 1);
                    concatenate(Axis(1), &[vec![pad; pads], vec![text]].concat()).unwrap()
                });
                let want = golden.f32(&format!("{n}.states"));
                table.compare(format!("mistral {layout} {on} {text} tokens, {pads} pads"), whole, &want, NETWORK);
            }
        }
    }
    table.finish();
}

#[test]
fn errors_name_the_cause() {
    let mut table = Table::default();
    let of = |folder: &Path, hidden, pads| {
        let part = Subgraph::HiddenStates(HiddenStates { hidden, pads });
        compile::component(folder, "Qwen3Model", part, None, Target::CPU).map(|_| ()).map_err(|e| e.to_string())
    };
    let model = goldens("z-image/model/text_encoder");
    let mut wants = |what: &str, got: Result<(), String>, wanted: &str| {
        let found = got.err().unwrap_or_default();
        table.row(found.contains(wanted) && !wanted.is_empty(), format!("{what}: {found}"));
    };
    wants("too deep", of(&model, &[4], Padding::None), "hidden states [4]: the model has 3 layers");
    wants("too far back", of(&model, &[-5], Padding::None), "hidden states [-5]: the model has 3 layers");
    wants("none", of(&model, &[], Padding::None), "hidden states []: the model has 3 layers");
    let whole = compile::component(&model, "Qwen3Model", Subgraph::Full, None, Target::CPU);
    wants("unasked", whole.map(|_| ()).map_err(|e| e.to_string()), "a language model requires the hidden states");
    for (what, from, to, wanted) in [
        (
            "layers",
            "\"num_hidden_layers\": 3",
            "\"num_hidden_layers\": 4",
            "num_hidden_layers is 4 and the weights have 3",
        ),
        ("heads", "\"num_attention_heads\": 4", "\"num_attention_heads\": 3", "config.json has 3 heads of 8 features"),
        ("act", "\"silu\"", "\"gelu\"", "hidden_act is gelu"),
        ("theta", "\"rope_theta\"", "\"rope\"", "neither rope_theta nor rope_parameters.rope_theta"),
        ("scaling", "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\"}", "positions of type yarn"),
        ("window", "\"use_sliding_window\": false", "\"sliding_window\": 7", "sliding_window is 7"),
    ] {
        let broken = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&model).unwrap().flatten() {
            std::fs::copy(entry.path(), broken.path().join(entry.file_name())).unwrap();
        }
        let config = broken.path().join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
        wants(what, of(broken.path(), &[-2], Padding::None), wanted);
    }
    table.finish();
}
