//! Mutated files: safetensors are read or rejected as by the safetensors crate. `tests/fuzz` mutates files of all readers.

use std::fs;

use crescendo::weights::{Data, safetensors};
use crescendo_fuzz::Mutations;

use crate::{assert_no_failures, root};

/// Returns the fuzzing seeds of a reader, sorted by name.
fn seeds(reader: &str) -> Vec<Vec<u8>> {
    let folder = fs::read_dir(root().join("fuzz/corpus").join(reader)).unwrap();
    let mut paths: Vec<_> = folder.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|p| fs::read(p).unwrap()).collect()
}

#[test]
fn safetensors_are_read_as_the_safetensors_crate_reads_them() {
    use ::safetensors::SafeTensors;
    let stricter = |e: &str| e.contains("duplicate tensor") || e.contains("element type");
    let (seeds, mut failures) = (seeds("safetensors"), vec![]);
    for (round, bytes) in seeds.iter().cloned().chain(Mutations::new(&seeds, 7)).take(6000).enumerate() {
        match (safetensors::read(&bytes), SafeTensors::deserialize(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                let same = |(name, view): (&str, ::safetensors::tensor::TensorView<'_>)| {
                    let at = Data::At((view.data().as_ptr() as usize - bytes.as_ptr() as usize) as u64);
                    ours.tensors.get(name).is_some_and(|t| t.shape == view.shape() && t.data == at)
                };
                if ours.tensors.len() != theirs.len() || !theirs.iter().all(same) {
                    failures.push(format!("round {round}: {ours:?}"));
                }
            }
            (Err(_), Err(_)) => {}
            (Err(e), Ok(_)) if stricter(&e.to_string()) => {}
            (ours, theirs) => failures.push(format!("round {round}: {ours:?}, crate: {:?}", theirs.err())),
        }
    }
    assert_no_failures(failures);
}
