//! Compares token ids and hidden states of chat prompts with diffusers' pipelines (`scripts/reference/{families,flux2}.py`).

use crescendo::{
    family::{self, Family, Overrides},
    model::ModelFolder,
    tensor::Tensor,
};
use ndarray::{Array3, ArrayD};
use serde::Deserialize;

use crate::table::{Golden, Table, cases, goldens};

#[derive(Deserialize)]
struct Prompts {
    max_sequence_length: usize,
    prompts: Vec<String>,
}

fn open(model: &str, text_tokens: usize) -> Box<dyn Family> {
    let overrides = Overrides { text_tokens: Some(text_tokens), ..Overrides::default() };
    family::open(&ModelFolder::open(&goldens(model).join("model")).unwrap(), &overrides).unwrap()
}

fn integers(t: &Tensor) -> Vec<i64> {
    match t {
        Tensor::I64(ids) => ids.iter().copied().collect(),
        Tensor::F32(_) => panic!("ids must be integers"),
    }
}

/// FLUX.2 and Qwen-Image. The networks take padding separately, before or after the text. The goldens have one row with both.
#[test]
fn ids_equal_the_pipelines() {
    let mut table = Table::default();
    for (model, before) in [("flux2-klein", false), ("flux2-dev", true), ("qwen-image", false)] {
        let golden = Golden::open(&format!("{model}/text.safetensors"));
        let Prompts { max_sequence_length, prompts } = cases(&format!("{model}/text.json"));
        let family = open(model, max_sequence_length);
        for (n, prompt) in prompts.iter().enumerate() {
            let mut notes = vec![];
            let calls = family.tokenize(prompt, &mut notes).unwrap();
            let got: Vec<i64> = calls[0].inputs.iter().flat_map(|(_, t)| integers(t)).collect();
            let want: Vec<i64> = golden.i64(&format!("{n}.ids")).into_iter().collect();
            let text = golden.i64(&format!("{n}.mask")).sum() as usize;
            let apart = calls[0].inputs[0].1.shape() == [1, text + usize::from(before)];
            // One padding token represents all padding before the text.
            let same = if before { got == want[want.len() - text - 1..] } else { got == want };
            let good = same && apart && notes.is_empty();
            let found = if good { String::new() } else { format!(": {got:?} for {want:?}, {notes:?}") };
            table.row(good, format!("{model} prompt {n}, {text} tokens{found}"));
        }
        let mut notes = vec![];
        let long = family.tokenize(&"fox ".repeat(400), &mut notes).unwrap();
        let states = long[0].inputs.iter().map(|(_, t)| t.shape()[1]).sum::<usize>();
        let states = Tensor::F32(Array3::zeros((1, states, 2)).into_dyn());
        let rows = family.conditioning(vec![states]).unwrap().text_tokens;
        let good = rows == max_sequence_length && notes.len() == 1;
        table.row(good, format!("{model} too long: {rows} rows, {notes:?}"));
    }
    table.finish();
}

/// klein's padding follows the text.
#[test]
fn rows_beyond_the_text_are_padding() {
    let family = open("flux2-klein", 5);
    let mut table = Table::default();
    for (found, wanted) in [(5, true), (6, true), (4, false)] {
        let states = ArrayD::from_shape_fn(vec![1, found, 1], |i| i[1] as f32);
        let got = family.conditioning(vec![Tensor::F32(states)]).ok().map(|c| c.inputs[0].1.clone());
        let good = match &got {
            Some(Tensor::F32(rows)) => rows.iter().copied().eq((0..5).map(|i| i as f32)),
            _ => false,
        };
        table.row(good == wanted, format!("{found} states: {got:?}"));
    }
    table.finish();
}
