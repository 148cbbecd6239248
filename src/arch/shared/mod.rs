//! Code that several networks use.

pub mod dimensions;
pub mod joint_attention;
pub mod timestep;
