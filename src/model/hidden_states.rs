//! What a DiT reads of a language model.

/// The wanted hidden states of a language model, and how its padding is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenStates {
    /// As transformers counts: 0 is the embeddings, k what layer k gives, −1 the last, after the final norm. Several stand
    /// side by side on the feature axis, in this order. Layers that none of them needs are not built.
    pub hidden: &'static [isize],
    /// Rows beside the text.
    pub pads: Padding,
}

/// Rows of padding in a language model whose states a DiT reads. They are hidden from the text everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None: Z-Image, Qwen-Image.
    None,
    /// After the text, all of which they see, but not themselves: FLUX.2-klein.
    After,
    /// Before the text, seeing nothing: attention adds nothing to them, and all of them are equal: FLUX.2-dev.
    Before,
}
