//! What a known model is: reads `models/*.toml`.
