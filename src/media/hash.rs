//! A hash of samples.

/// The BLAKE3 hash of samples, in hexadecimal.
pub fn hash(samples: &ndarray::Array3<f32>) -> String {
    let (mut hasher, mut room) = (blake3::Hasher::new(), Vec::with_capacity(1 << 16));
    for sample in samples {
        room.extend(sample.to_le_bytes());
        if room.len() == 1 << 16 {
            hasher.update(&room);
            room.clear();
        }
    }
    hasher.update(&room).finalize().to_hex().to_string()
}
