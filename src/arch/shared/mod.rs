//! Code that several networks use.

pub(super) mod dimensions;
pub(super) mod joint_attention;
pub(super) mod timestep;
