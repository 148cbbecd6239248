//! Networks, tokenizers and stages against goldens that other implementations wrote (`scripts/reference/`).
//!
//! `cargo test --test parity -- --nocapture` prints every row: name, shape, error, limit.

#![allow(clippy::unwrap_used)]

mod esrgan;
mod flux;
mod rife;
mod table;
