//! Token ids against transformers, by both routes (`scripts/reference/flux1.py`).

use std::fs;

use crescendo::{
    family,
    model::{ModelFolder, Tokenizer},
    tensor::Tensor,
};
use serde::Deserialize;

use crate::table::{Golden, Table, cases, goldens};

#[derive(Deserialize)]
struct Rows {
    clip_max_length: usize,
    t5_max_length: usize,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    prompt: String,
    clip: Vec<i64>,
    t5: Vec<i64>,
}

#[derive(Deserialize)]
struct Encoded {
    prompt: String,
    max_sequence_length: usize,
}

const PAD: i64 = -7;

#[test]
fn ids_equal_transformers_by_both_routes() {
    let rows: Rows = cases("flux1-dev/tokenizers.json");
    let model = goldens("flux1-dev/model");
    let shipped = tempfile::tempdir().unwrap();
    fs::copy(goldens("flux1-dev/clip_tokenizer.json"), shipped.path().join("tokenizer.json")).unwrap();
    let built = Tokenizer::open(&model.join("tokenizer"), "CLIPTokenizer").unwrap();
    let shipped = Tokenizer::open(shipped.path(), "CLIPTokenizer").unwrap();
    let t5 = Tokenizer::open(&model.join("tokenizer_2"), "T5TokenizerFast").unwrap();
    let mut table = Table::default();
    for row in &rows.rows {
        let routes = [
            ("clip from vocab.json and merges.txt", &built, rows.clip_max_length, &row.clip),
            ("clip from tokenizer.json", &shipped, rows.clip_max_length, &row.clip),
            ("t5 from tokenizer.json", &t5, rows.t5_max_length, &row.t5),
        ];
        for (route, tokenizer, length, want) in routes {
            let got = tokenizer.encode_to(&row.prompt, length, PAD).unwrap();
            let padded = got.ids.len() == length && got.ids[got.used..].iter().all(|&id| id == PAD);
            let whole = tokenizer.encode(&row.prompt).unwrap();
            let cut = whole.len() == got.used + got.cut;
            let good = got.ids[..got.used] == want[..] && padded && cut;
            let prompt: String = row.prompt.chars().take(40).collect();
            let found = if good { String::new() } else { format!(" {:?} for {want:?}", &got.ids[..got.used]) };
            table.row(good, format!("{route:<38} {:4} tokens {prompt:?}{found}", want.len()));
        }
    }
    table.finish();
}

#[test]
fn prompts_are_padded_as_the_pipeline_pads_them() {
    let golden = Golden::open("flux1-dev/text.safetensors");
    let family = family::open(&ModelFolder::open(&goldens("flux1-dev/model")).unwrap()).unwrap();
    let t5 = Tokenizer::open(&goldens("flux1-dev/model/tokenizer_2"), "T5TokenizerFast").unwrap();
    let mut table = Table::default();
    for (n, row) in cases::<Vec<Encoded>>("flux1-dev/text.json").iter().enumerate() {
        let calls = family.tokenize(&row.prompt, &mut vec![]).unwrap();
        let ids = |call: usize| match &calls[call].inputs[0].1 {
            Tensor::I64(ids) => ids.clone(),
            Tensor::F32(_) => panic!("ids must be integers"),
        };
        table.row(ids(0) == golden.i64(&format!("{n}.clip.ids")), format!("clip, prompt {n}"));
        let wanted = golden.i64(&format!("{n}.t5.ids"));
        let got = t5.encode_to(&row.prompt, row.max_sequence_length, 0).unwrap().ids;
        table.row(got == wanted.iter().copied().collect::<Vec<_>>(), format!("t5, prompt {n}"));
        if row.max_sequence_length == 512 {
            table.row(ids(1) == wanted, format!("t5 by the family, prompt {n}"));
        }
    }
    table.finish();
}
