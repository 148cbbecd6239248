//! From text to token ids. Reads `tokenizer.json`, or builds it from `vocab.json` and `merges.txt`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::folder::read_json;
use crate::{
    error::{Error, Result},
    files::read_text,
};

/// A tokenizer without padding and truncation.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

/// Token ids, truncated or padded to a length.
#[derive(Debug, Clone, PartialEq)]
pub struct Ids {
    /// As many as the length.
    pub ids: Vec<i64>,
    /// Number of text tokens, with special tokens.
    pub used: usize,
    /// Number of tokens cut.
    pub cut: usize,
}

impl Ids {
    /// The warning where the text is too long for `encoder`.
    pub(crate) fn warning(&self, encoder: &str) -> Option<String> {
        let Self { used, cut, .. } = self;
        let all = used + cut;
        (*cut > 0).then(|| format!("the prompt has {all} tokens, and {encoder} reads {used}; the last {cut} are cut"))
    }
}

/// Splits CLIP's text into words; openai/CLIP `simple_tokenizer.py`.
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Splits Qwen's text into words; transformers `tokenization_qwen2.py`.
const QWEN_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Tokenizer {
    /// Opens the folder of a tokenizer. `class`: its class in `model_index.json`.
    pub fn open(folder: &Path, class: &str) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        let bytes = if file.exists() {
            let text = read_text(&file).map_err(|e| Error::io("reading", &file, &e))?;
            // The tokenizers crate panics where the JSON ends or breaks inside of some parts.
            serde_json::from_str::<Value>(&text)
                .map_err(|e| Error::failed(format!("{}: not a tokenizer: tokenizer.json: {e}", folder.display())))?;
            text.into_bytes()
        } else {
            let built = if class.starts_with("CLIP") {
                clip(folder)?
            } else if class.starts_with("Qwen2") {
                qwen(folder)?
            } else {
                let wanted = "download it, or use a repository that has it";
                return Err(Error::failed(format!("{} is missing and a {class} needs it; {wanted}", file.display())));
            };
            built.to_string().into_bytes()
        };
        let broken = |e: tokenizers::Error| Error::failed(format!("{}: not a tokenizer: {e}", folder.display()));
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(broken)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(broken)?;
        Ok(Self { inner })
    }

    /// The ids of a text, without added tokens: for chat templates, which contain the special tokens.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.encoded(text, false)?.0)
    }

    /// Ids, and whether the last one is an end token that the tokenizer added.
    fn encoded(&self, text: &str, special: bool) -> Result<(Vec<i64>, bool)> {
        let encoding = self.inner.encode_fast(text, special).map_err(|e| Error::failed(format!("tokenizing: {e}")))?;
        let closed = encoding.get_special_tokens_mask().last() == Some(&1);
        Ok((encoding.get_ids().iter().map(|&id| i64::from(id)).collect(), closed))
    }

    /// Ids truncated to `length`, but with the end token that the tokenizer adds, and padded on the right with `pad`.
    ///
    /// # Errors
    /// A length of 0.
    pub fn encode_to(&self, text: &str, length: usize, pad: i64) -> Result<Ids> {
        if length == 0 {
            return Err(Error::failed("tokenizing: the text encoder reads 0 tokens; its config.json is broken"));
        }
        let (mut ids, closed) = self.encoded(text, true)?;
        let cut = ids.len().saturating_sub(length);
        if cut > 0 {
            let last = ids[ids.len() - 1];
            ids.truncate(length);
            if closed {
                ids[length - 1] = last;
            }
        }
        let used = ids.len();
        ids.resize(length, pad);
        Ok(Ids { ids, used, cut })
    }

    /// The id of a token, such as `<|endoftext|>`.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }
}

/// vocab.json and merges.txt.
fn vocabulary(folder: &Path) -> Result<(Map<String, Value>, Vec<Value>)> {
    let vocab = read_json(&folder.join("vocab.json"))?;
    let path = folder.join("merges.txt");
    let text = read_text(&path).map_err(|e| Error::io("reading", &path, &e))?;
    let pairs = text.lines().filter(|l| !l.starts_with("#version") && !l.is_empty());
    Ok((vocab, pairs.map(|l| Value::from(l.split(' ').collect::<Vec<_>>())).collect()))
}

fn special(id: i64, content: &str, is_special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": is_special})
}

/// CLIP: lower-case words, byte-level BPE with `</w>` at the end of a word, between a start and an end token.
fn clip(folder: &Path) -> Result<Value> {
    let (vocab, merges) = vocabulary(folder)?;
    let id = |token: &str| {
        vocab.get(token).and_then(Value::as_i64).ok_or_else(|| {
            Error::failed(format!("{}: the vocabulary has no {token}", folder.join("vocab.json").display()))
        })
    };
    let (start, end) = (id("<|startoftext|>")?, id("<|endoftext|>")?);
    Ok(json!({
        "version": "1.0",
        "added_tokens": [special(start, "<|startoftext|>", true), special(end, "<|endoftext|>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", end], "cls": ["<|startoftext|>", start],
                           "trim_offsets": false, "add_prefix_space": false},
        "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab, "merges": merges},
    }))
}

/// Qwen2: byte-level BPE, with added tokens from tokenizer_config.json.
fn qwen(folder: &Path) -> Result<Value> {
    let (vocab, merges) = vocabulary(folder)?;
    let config: Value = read_json(&folder.join("tokenizer_config.json"))?;
    let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
    let mut added: Vec<(i64, Value)> = decoder
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| {
            let id = id.parse().ok()?;
            let mut added = special(id, token.get("content")?.as_str()?, false);
            let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"];
            for (flag, said) in flags.into_iter().filter_map(|flag| Some((flag, token.get(flag)?))) {
                added[flag] = said.clone();
            }
            Some((id, added))
        })
        .collect();
    added.sort_by_key(|(id, _)| *id);
    let added: Vec<Value> = added.into_iter().map(|(_, token)| token).collect();
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "truncation": null, "padding": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    }))
}
