//! Checkpoints: tensors by name, read from headers and mapped, never copied.
