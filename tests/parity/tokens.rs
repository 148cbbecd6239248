//! Compares token ids with transformers, for both tokenizer file formats (`scripts/reference/{flux1,families}.py`).

use std::fs;

use crescendo::{
    family::{self, Overrides},
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

#[derive(Deserialize)]
struct Encodings {
    prompts: Vec<String>,
}

const PAD: i64 = -7;

#[test]
fn ids_of_both_file_formats_equal_transformers() {
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
            let all = tokenizer.encode_to(&row.prompt, 1 << 16, PAD).unwrap().used;
            let cut = all == got.used + got.cut;
            let good = got.ids[..got.used] == want[..] && padded && cut;
            let prompt: String = row.prompt.chars().take(40).collect();
            let found = if good { String::new() } else { format!(" {:?} for {want:?}", &got.ids[..got.used]) };
            table.row(good, format!("{route:<38} {:4} tokens {prompt:?}{found}", want.len()));
        }
    }
    table.finish();
}

#[derive(Deserialize)]
struct Ids {
    max_length: usize,
    rows: Vec<IdRow>,
}

#[derive(Deserialize)]
struct IdRow {
    prompt: String,
    ids: Vec<i64>,
}

#[test]
fn ids_of_every_family_equal_transformers() {
    let mut table = Table::default();
    for (model, class) in [
        ("flux2-klein", "Qwen2TokenizerFast"),
        ("qwen-image", "Qwen2Tokenizer"),
        ("wan", "T5TokenizerFast"),
        ("z-image", "Qwen2Tokenizer"),
    ] {
        let Ids { max_length, rows } = cases(&format!("{model}/tokenizers.json"));
        let folder = goldens(model).join("model/tokenizer");
        let built = tempfile::tempdir().unwrap();
        let parts = ["vocab.json", "merges.txt", "tokenizer_config.json"];
        let found = parts.map(|name| fs::copy(folder.join(name), built.path().join(name)).is_ok());
        let mut routes = vec![("tokenizer.json", Tokenizer::open(&folder, class))];
        if found == [true; 3] {
            routes.push(("vocab.json and merges.txt", Tokenizer::open(built.path(), class)));
        }
        table.row(routes.len() == 2 || class.starts_with("T5"), format!("{model}: {} routes", routes.len()));
        for (route, tokenizer) in routes {
            let tokenizer = tokenizer.unwrap();
            for IdRow { prompt, ids } in &rows {
                let got = tokenizer.encode_to(prompt, max_length, PAD).unwrap();
                let good = got.ids[..got.used] == ids[..];
                let prompt: String = prompt.chars().take(40).collect();
                let found = if good { String::new() } else { format!(" {:?} for {ids:?}", &got.ids[..got.used]) };
                table.row(good, format!("{model} from {route:<26} {:4} tokens {prompt:?}{found}", ids.len()));
            }
        }
    }
    table.finish();
}

/// Compares the text encoder inputs of each family with those of the pipeline.
#[test]
fn chat_templates_equal_the_pipeline() {
    let mut table = Table::default();
    for model in ["z-image"] {
        let golden = Golden::open(&format!("{model}/text.safetensors"));
        let family =
            family::open(&ModelFolder::open(&goldens(model).join("model")).unwrap(), &Overrides::default()).unwrap();
        let prompts: Encodings = cases(&format!("{model}/text.json"));
        for (n, prompt) in prompts.prompts.iter().enumerate() {
            let calls = family.tokenize(prompt, &mut vec![]).unwrap();
            let Tensor::I64(ids) = &calls[0].inputs[0].1 else { panic!("ids must be integers") };
            let used = golden.i64(&format!("{n}.mask")).sum() as usize;
            let want: Vec<i64> = golden.i64(&format!("{n}.ids")).into_iter().take(used).collect();
            let good = ids.iter().copied().collect::<Vec<_>>() == want;
            table.row(good, format!("{model} {prompt:?}: {ids} for {want:?}"));
        }
    }
    table.finish();
}

#[test]
fn long_prompts_are_truncated_with_a_warning() {
    let folder = ModelFolder::open(&goldens("z-image/model")).unwrap();
    let open = |tokens| family::open(&folder, &Overrides { text_tokens: Some(tokens), ..Overrides::default() });
    let (family, mut notes) = (open(20).unwrap(), vec![]);
    let calls = family.tokenize(&"fox ".repeat(40), &mut notes).unwrap();
    assert_eq!(calls[0].inputs[0].1.shape(), [1, 20]);
    assert!(notes.len() == 1 && notes[0].contains("are cut"), "{notes:?}");
    assert!(open(513).is_err() && open(0).is_err());
}

#[test]
fn padding_equals_the_pipeline() {
    let golden = Golden::open("flux1-dev/text.safetensors");
    let family = family::open(&ModelFolder::open(&goldens("flux1-dev/model")).unwrap(), &Overrides::default()).unwrap();
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
