//! Mutated files: no reader panics, allocates much, or reads outside the file.

use std::{fs, panic::catch_unwind, sync::atomic::Ordering::Relaxed};

use crescendo::{
    Result,
    weights::{Contents, Data, safetensors, torch_legacy, torch_zip},
};
use crescendo_fuzz::Mutations;

use crate::{LIVE, PEAK, assert_no_failures, root};

/// Reads the bytes. Returns the failure: a tensor outside the file, or a panic.
fn read_failure(read: fn(&[u8]) -> Result<Contents>, bytes: &[u8]) -> Option<String> {
    let read = || {
        for (name, t) in read(bytes).unwrap_or_default().tensors {
            let len = t.shape.iter().product::<usize>() * t.dtype.size();
            let within = match t.data {
                Data::At(at) => at as usize + len <= bytes.len(),
                Data::Gathered(data) => data.len() == len,
            };
            assert!(within, "{name} is outside");
        }
    };
    catch_unwind(read).err().map(|e| format!("{:?}", e.downcast_ref::<String>()))
}

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

#[test]
fn random_bytes_cause_no_panic_and_no_large_allocation() {
    let seeds = ["safetensors", "torch_zip", "torch_legacy"].map(seeds);
    let readers = [safetensors::read, torch_zip::read, torch_legacy::read];
    let before = LIVE.load(Relaxed);
    let mut failures = vec![];
    for bytes in seeds.iter().flatten() {
        failures.extend(readers.iter().filter_map(|read| read_failure(*read, bytes)));
    }
    for (read, seeds) in readers.iter().zip(&seeds) {
        for (round, bytes) in Mutations::new(seeds, 20).take(10_000).enumerate() {
            failures.extend(read_failure(*read, &bytes).map(|e| format!("round {round}: {e}")));
        }
    }
    assert_no_failures(failures);
    let peak = (PEAK.load(Relaxed) - before) >> 20;
    assert!(peak < 80, "{peak} MiB at the peak");
}
