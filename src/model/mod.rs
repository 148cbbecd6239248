//! What families have in common: the checkpoint's folder, tokenizers, hidden states of language models, layouts of latents
//! and positions.

mod folder;
pub mod layout;
mod states;
mod tokenizer;

pub use folder::{ModelFolder, read_json};
pub use states::{Pads, States};
pub use tokenizer::{Ids, Tokenizer};
