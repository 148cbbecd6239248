//! What families have in common: the checkpoint's folder, tokenizers, layouts of latents and positions.

mod folder;
pub mod layout;
mod tokenizer;

pub use folder::{ModelFolder, read_json};
pub use tokenizer::{Ids, Tokenizer};
