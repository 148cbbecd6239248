//! Valid checkpoints: values, names, folders.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use crescendo::{
    Result,
    tensor::DType,
    weights::{Checkpoint, Container, Location, Stored},
};
use serde_json::Value;

use crate::{assert_no_failures, data, sha};

/// Returns [dtype, shape, sha256 of bytes, sha256 of values as f32 with 12345 for NaN], as in expected.json.
fn describe(t: &Stored) -> Value {
    let floats = t.to_f32().unwrap().into_iter().map(|x| if x.is_nan() { 12345.0 } else { x });
    let floats: Vec<u8> = floats.flat_map(f32::to_le_bytes).collect();
    serde_json::json!([t.dtype.name(), t.shape, sha(t.bytes().unwrap()), sha(&floats)])
}

#[test]
fn tensors_equal_torch_and_safetensors() {
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(data("expected.json")).unwrap()).unwrap();
    let mut failures = vec![];
    for (file, want) in expected {
        let got = match Checkpoint::open(&data(&file)) {
            Ok(checkpoint) => checkpoint,
            Err(e) => {
                failures.push(e.to_string());
                continue;
            }
        };
        let mut skipped = got.skipped().to_vec();
        skipped.sort();
        let tensors: serde_json::Map<_, _> = got.iter().map(|(n, t)| (n.to_owned(), describe(t))).collect();
        for (what, got, want) in [
            ("wrapper", &serde_json::json!(got.wrapper()), &want["wrapper"]),
            ("skipped", &serde_json::json!(skipped), &want["skipped"]),
            ("tensors", &tensors.len().into(), &want["tensors"].as_object().unwrap().len().into()),
        ] {
            if got != want {
                failures.push(format!("{file}: {what}: {got}, not {want}"));
            }
        }
        for (name, want) in want["tensors"].as_object().unwrap() {
            let got = tensors.get(name);
            if got != Some(want) {
                failures.push(format!("{file}: {name}: {got:?}, not {want}"));
            }
        }
    }
    assert_no_failures(failures);
}

#[test]
fn contiguous_data_stays_mapped() {
    let gathered = ["transposed", "sliced", "expanded", "column", "empty"];
    let mut failures = vec![];
    for file in ["shapes.zip.pth", "shapes.legacy.pth", "dtypes.zip.pth", "dtypes.safetensors", "flownet.pkl"] {
        for (name, t) in Checkpoint::open(&data(file)).unwrap().iter() {
            let plain = !gathered.contains(&name) || file.ends_with(".safetensors");
            match &t.location {
                Location::Memory(_) if !plain => {}
                Location::File { path, offset, .. } if plain => {
                    let offset = *offset as usize;
                    let there = &fs::read(path).unwrap()[offset..offset + t.len_bytes() as usize];
                    if there != t.bytes().unwrap() || **path != data(file).canonicalize().unwrap() {
                        failures.push(format!("{file}: {name}: other bytes at {offset} of {path:?}"));
                    }
                }
                other => failures.push(format!("{file}: {name}: {other:?}")),
            }
        }
    }
    assert_no_failures(failures);
}

#[test]
fn containers_are_detected_by_content() {
    let table = [
        ("flownet.pkl", Container::TorchZip),
        ("training.legacy.tar", Container::TorchLegacy),
        ("dtypes.safetensors", Container::Safetensors),
        ("sharded", Container::Safetensors),
        ("sharded/diffusion_pytorch_model.safetensors.index.json", Container::Safetensors),
    ];
    let wrong = |(file, want): (&str, Container)| {
        let got = Checkpoint::open(&data(file)).unwrap().container();
        (got != want).then(|| format!("{file}: {}, not {}", got.name(), want.name()))
    };
    assert_no_failures(table.into_iter().filter_map(wrong).collect());
}

#[test]
fn names_are_looked_up() {
    let t = Checkpoint::open(&data("sharded")).unwrap();
    assert_eq!(t.names().collect::<Vec<_>>(), ["0.bias", "0.weight", "1.weight", "2.bias", "2.weight"]);
    assert_eq!((t.len(), t.is_empty(), t.contains("1.weight"), t.contains("3")), (5, false, true, false));
    assert_eq!((t.parameters(), t.bytes()), (112 + 4 + 111, 4 * 227));
    assert_eq!(t.dtypes(), BTreeMap::from([(DType::F32, 5)]));
    assert_eq!((t.sequence_len(""), t.sequence_len("0"), t.sequence_len("x")), (Some(3), None, None));
    assert_eq!(t.children("").into_iter().collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(t.children("0").into_iter().collect::<Vec<_>>(), ["bias", "weight"]);
    let renamed = t.clone().renamed(|n| n.strip_suffix("weight").map(|n| format!("body.{n}w"))).unwrap();
    assert_eq!(renamed.names().collect::<Vec<_>>(), ["body.0.w", "body.1.w", "body.2.w"]);
    assert_eq!((renamed.sequence_len("body"), renamed.sequence_len("bod")), (Some(3), None));
    let error = t.renamed(|n| Some(n[2..].to_owned())).unwrap_err().to_string();
    assert!(error.contains("`0.weight` and `1.weight` would both be named `weight`"), "{error}");
    let lie = BTreeMap::from([("a.99999999999.w".to_owned(), Stored::from_f32(vec![], &[1.0]))]);
    assert_eq!(Checkpoint::new("memory", Container::Safetensors, lie).sequence_len("a"), None);
}

#[test]
fn the_first_non_finite_tensor_is_found() {
    let of = |values: &[f32]| Stored::from_f32(vec![values.len()], values);
    let make = |b: &[f32]| {
        let tensors = [("a", of(&[1.0, f32::MAX])), ("b", of(b)), ("c", of(&[f32::NEG_INFINITY]))];
        let tensors = tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
        Checkpoint::new("memory", Container::Safetensors, tensors).non_finite().unwrap().unwrap()
    };
    assert_eq!((make(&[0.0]).as_str(), make(&[0.0, f32::NAN]).as_str()), ("c", "b"));
    let specials = Checkpoint::open(&data("dtypes.legacy.pth")).unwrap();
    assert_eq!(specials.non_finite().unwrap().as_deref(), Some("f16_special"));
    let finite = specials.renamed(|n| (n != "f16_special").then(|| n.to_owned())).unwrap();
    assert_eq!(finite.non_finite().unwrap(), None);
    let both = Checkpoint::open(&data("float8.zip.pth")).unwrap();
    assert_eq!(both.non_finite().unwrap().as_deref(), Some("e4m3"));
}

#[test]
fn links_of_a_hub_cache_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshot"));
    fs::create_dir(&blobs).unwrap();
    fs::create_dir(&snapshot).unwrap();
    for entry in fs::read_dir(data("sharded")).unwrap() {
        let entry = entry.unwrap();
        let blob = blobs.join(sha(entry.file_name().as_encoded_bytes()));
        fs::copy(entry.path(), &blob).unwrap();
        symlink(blob, snapshot.join(entry.file_name())).unwrap();
    }
    let t = Checkpoint::open(&snapshot).unwrap();
    assert_eq!((t.len(), t.origin()), (5, &*snapshot));
    let blobs = blobs.canonicalize().unwrap();
    assert!(t.iter().all(|(_, t)| matches!(&t.location, Location::File { path, .. } if path.starts_with(&blobs))));
}

#[test]
fn the_weights_of_a_folder_are_found() {
    let weights = fs::read(data("dtypes.safetensors")).unwrap();
    let torch = fs::read(data("metadata.zip.pth")).unwrap();
    let table: [(&[&str], Result<usize, &str>); 6] = [
        (&["a.safetensors", "config.json"], Ok(15)),
        (&["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"], Ok(15)),
        (&["b.pth", "readme.md"], Ok(5)),
        (&["a.safetensors", "b.pth"], Ok(15)),
        (
            &["a.safetensors", "b.safetensors"],
            Err("several files with weights; name one of them: `a.safetensors`, `b.safetensors`"),
        ),
        (
            &["config.json"],
            Err("a folder without weights (.safetensors, .pth, .pt, .pkl, .bin, .ckpt): it has `config.json`"),
        ),
    ];
    let mut failures = vec![];
    for (files, want) in table {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), if file.ends_with("safetensors") { &weights } else { &torch }).unwrap();
        }
        match (Checkpoint::open(dir.path()), want) {
            (Ok(t), Ok(want)) if t.len() == want => {}
            (Err(e), Err(want)) if e.to_string().contains(want) => {}
            (got, want) => failures.push(format!("{files:?}: {:?}, not {want:?}", got.map(|t| t.len()))),
        }
    }
    assert_no_failures(failures);
}
