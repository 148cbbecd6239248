//! Language models as text encoders, against transformers (`scripts/reference/families.py`): the states that a DiT reads.

use crescendo::{
    compile::{self, Part},
    model::{Pads, States},
    tensor::Tensor,
};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use crate::table::{Golden, NETWORK, TARGETS, Table, goldens, load, output, run};

struct Row {
    model: &'static str,
    class: &'static str,
    states: States,
    /// Rows of a template that the DiT does not see.
    dropped: usize,
}

const ROWS: [Row; 3] = [
    Row { model: "z-image", class: "Qwen3Model", states: States { hidden: &[-2], pads: Pads::None }, dropped: 0 },
    Row {
        model: "flux2-klein",
        class: "Qwen3ForCausalLM",
        states: States { hidden: &[9, 18, 27], pads: Pads::After },
        dropped: 0,
    },
    Row {
        model: "qwen-image",
        class: "Qwen2_5_VLForConditionalGeneration",
        states: States { hidden: &[-1], pads: Pads::None },
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
fn language_model_states_equal_transformers() {
    let mut table = Table::default();
    for Row { model, class, states, dropped } in ROWS {
        let golden = Golden::open(&format!("{model}/text.safetensors"));
        let folder = goldens(model).join("model/text_encoder");
        for (on, target) in TARGETS {
            let built = compile::component(&folder, class, Part::States(states), None, target);
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
                if states.pads == Pads::After {
                    inputs.push(("pads", integers(pads)));
                }
                let want = golden.f32(&format!("{n}.states"));
                let got = output(&run(&mut net, &inputs), "states").map(|s| rows(s, dropped, want.ndim()));
                table.compare(format!("{model} {on} prompt {n}"), got, &want, NETWORK);
                if states.pads == Pads::After {
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
