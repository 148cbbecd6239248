//! What families share: the folder of a checkpoint, the repair of prompts, tokenizers, hidden states of language models, layouts of latents and
//! positions.

mod folder;
mod hidden_states;
pub(crate) mod layout;
pub(crate) mod repair;
mod tokenizer;

pub use folder::{ModelFolder, read_config, read_json};
pub use hidden_states::{HiddenStates, Padding};
pub use tokenizer::{Ids, Tokenizer};
