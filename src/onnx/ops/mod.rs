//! Operator families, one file each. A file has the layers, their lowering per target, and their receptive field ([`Rows`]).
//!
//! [`Rows`]: super::op::Rows

mod activation;
mod arithmetic;
mod attention;
mod conv;
mod linear;
mod norm;
mod reduce;
mod resize;
mod rotary;
mod shape;
mod warp;

pub(crate) use attention::Attention;
pub(crate) use conv::Conv;
pub(crate) use rotary::Rotary;
