//! Networks, tokenizers and stages against goldens that other implementations wrote (`scripts/reference/`).
//!
//! `cargo test --test parity -- --nocapture` prints every row: name, shape, error, limit.

#![allow(clippy::unwrap_used)]

mod esrgan;
mod faults;
mod flux;
mod graphs;
mod rife;
mod table;
mod tokens;
mod wan;
