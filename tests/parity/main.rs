//! Compares networks, tokenizers and stages with goldens of the reference libraries (`scripts/reference/`).
//!
//! `cargo test --test parity -- --nocapture` prints every row: name, shape, error, limit.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod decoder_lm;
mod esrgan;
mod faults;
mod flux;
mod flux2;
mod graphs;
mod prompts;
mod qwen_image;
mod rife;
mod table;
mod tokens;
mod vae;
mod wan;
mod z_image;
