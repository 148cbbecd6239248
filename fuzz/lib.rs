//! Weight readers for fuzzing. Includes the package's source files directly, so that it builds in seconds.
//!
//! ```text
//! cargo +nightly fuzz run torch_zip -- -max_total_time=60
//! ```

#[path = "../src/error.rs"]
pub mod error;
#[path = "../src/tensor.rs"]
pub mod tensor;
#[path = "../src/weights/mod.rs"]
pub mod weights;

use weights::{Contents, Data};

/// Asserts that the bytes of each tensor of an accepted file lie within the file or were gathered completely.
pub fn check(bytes: &[u8], read: impl Fn(&[u8]) -> error::Result<Contents>) {
    let Ok(contents) = read(bytes) else { return };
    for (name, t) in contents.tensors {
        let len = t.shape.iter().product::<usize>() as u64 * t.dtype.size() as u64;
        match t.data {
            Data::At(offset) => assert!(offset + len <= bytes.len() as u64, "{name}"),
            Data::Gathered(gathered) => assert_eq!(len, gathered.len() as u64, "{name}"),
        }
    }
}
