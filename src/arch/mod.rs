//! Networks: one file each, mirroring its paper.
