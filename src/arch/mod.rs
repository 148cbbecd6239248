//! Networks, one file each.
//!
//! A file follows its paper: dimensions read from the weights' shapes, then the forward pass from top to bottom, written with
//! [`Scope`](crate::onnx::Scope) and [`Value`](crate::onnx::Value). It exports one [`Architecture`], which says how to recognise the
//! network, how to build it, what it costs, and which entries of `config.json` its weights determine. Code that several networks use
//! is in `shared/`.
//!
//! To add a network, add its file, its `mod` line and its line in [`ARCHITECTURES`].

mod architecture;
mod shared;

mod clip;
mod decoder_lm;
mod flux;
mod flux2;
mod qwen_image;
mod rife;
mod rrdbnet;
mod srvgg;
mod t5;
mod vae_kl;
mod vae_wan;
mod wan;
mod z_image;

pub(crate) use architecture::{Architecture, Component, ConfigChecks, Fact, NetworkKind};
pub use architecture::{Cost, Subgraph, VaeSpec};

/// All networks, in the order in which a checkpoint is tested for them.
pub(crate) const ARCHITECTURES: &[&Architecture] = &[
    &rrdbnet::ARCHITECTURE,
    &srvgg::ARCHITECTURE,
    &rife::ARCHITECTURE,
    &flux::ARCHITECTURE,
    &flux2::ARCHITECTURE,
    &qwen_image::ARCHITECTURE,
    &vae_wan::ARCHITECTURE,
    &wan::ARCHITECTURE,
    &z_image::ARCHITECTURE,
    &decoder_lm::ARCHITECTURE,
    &vae_kl::ARCHITECTURE,
    &clip::ARCHITECTURE,
    &t5::ARCHITECTURE,
];
