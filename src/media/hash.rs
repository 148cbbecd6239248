//! A hash of samples.

/// The BLAKE3 hash of samples, in hexadecimal.
pub fn hash(samples: &ndarray::Array3<f32>) -> String {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), Vec::with_capacity(1 << 16));
    for sample in samples {
        buffer.extend(sample.to_le_bytes());
        if buffer.len() == 1 << 16 {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    hasher.update(&buffer).finalize().to_hex().to_string()
}
