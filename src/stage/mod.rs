//! The steps of the line; no stage knows another.
