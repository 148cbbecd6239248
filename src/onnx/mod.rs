//! The graph builder: [`Scope`] carries weights and names, [`Value`] carries shapes, [`Graph`] becomes a protobuf.
//!
//! A network file says what a paper says; this module says how that is written for a target ([`Target`]).

mod dim;
mod graph;
mod lower;
pub mod proto;
mod reach;
mod scope;
mod value;

pub use dim::Dim;
pub use graph::{Graph, Model, Provider, Target};
pub use lower::{Attention, Rotary};
pub use scope::{Conv, Scope};
pub use value::Value;
