//! The hidden states of a language model that a DiT reads.

/// The hidden states to read from a language model, and its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenStates {
    /// Numbered as in transformers: 0 is the embeddings, k the output of layer k, −1 the last, after the final norm. Several are
    /// concatenated on the feature axis, in this order. Layers that none of them needs are not built.
    pub hidden: &'static [isize],
    /// The padding of the text.
    pub pads: Padding,
}

/// Padding tokens of a language model whose hidden states a DiT reads. The text never attends to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None: Z-Image, Qwen-Image.
    None,
    /// After the text. They attend to the whole text, but not to each other: FLUX.2-klein.
    After,
    /// Before the text. They attend to nothing, so all of them are equal: FLUX.2-dev.
    Before,
}
