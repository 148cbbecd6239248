//! Graph builder: writes ONNX graphs in Rust that reads like the paper.
//!
//! | | |
//! |---|---|
//! | `Scope` | prefix of weights and node names; layers with weights, such as `w.linear("to_q", &x, n)` |
//! | `Value` | result of a node; overloads `+ - * /` and has the layers without weights |
//! | `Graph` | inputs, outputs, nodes and initializers of the protobuf under construction |
//! | `Dim` | symbolic extent, such as `h*8`; shapes are inferred while the graph is written |
//! | [`Target`] | execution provider and compute type; selects the lowering in `ops/` |
//!
//! Errors (shape mismatches, missing, misshapen and unused weights) are recorded while the graph is written, and `finish` reports all
//! of them together.
//!
//! Weights are not copied. An initializer points into the checkpoint's file (external data). A weight stored in another type than the
//! compute type gets a Cast, and all these Casts precede the other nodes: with bounded constant folding (`--memory-limit`) ONNX
//! Runtime then widens one weight at a time, and the checkpoint stays memory-mapped.
//!
//! Each operator family is a file in `ops/`, with its lowering per target and its receptive field. Architecture files never test
//! the target.

mod dim;
mod extent;
mod graph;
mod model;
mod op;
mod ops;
pub mod proto;
mod receptive_field;
mod scope;

pub use model::{Model, Provider, Target};

pub(crate) use dim::Dim;
pub(crate) use graph::{Graph, Value};
pub(crate) use ops::{Attention, Conv, Rotary};
pub(crate) use scope::Scope;
