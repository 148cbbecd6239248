//! Spectral progressive diffusion (arXiv 2605.18736): transforms, growth, activation times.
