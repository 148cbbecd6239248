//! Weight files.

use crate::{
    error::Result,
    weights::{self, Contents, Data},
};

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    check(bytes, weights::safetensors::read);
}

/// A zip file of torch.
pub fn torch_zip(bytes: &[u8]) {
    check(bytes, weights::torch_zip::read);
}

/// A file of torch before 1.6.
pub fn torch_legacy(bytes: &[u8]) {
    check(bytes, weights::torch_legacy::read);
}

/// Asserts that the bytes of each tensor of an accepted file lie within the file or were gathered completely.
fn check(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Contents>) {
    let Ok(contents) = read(bytes) else { return };
    for (name, t) in contents.tensors {
        let len = t.shape.iter().product::<usize>() as u64 * t.dtype.size() as u64;
        match t.data {
            Data::At(offset) => assert!(offset + len <= bytes.len() as u64, "{name}"),
            Data::Gathered(gathered) => assert_eq!(len, gathered.len() as u64, "{name}"),
        }
    }
}
