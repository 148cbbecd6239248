//! Compares weight readers with torch and safetensors (tests/data/weights, scripts/reference/weights.py); tests invalid files.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crescendo::{
    Result,
    tensor::DType,
    weights::{Checkpoint, Container, Contents, Data, Location, Stored, safetensors, torch_legacy, torch_zip},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Counts allocated bytes, to detect small files that cause large allocations.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn data(name: &str) -> PathBuf {
    root().join("tests/data/weights").join(name)
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Panics with all failures, if any.
#[track_caller]
fn assert_no_failures(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} failures:\n{}", complaints.len(), complaints.join("\n"));
}

/// Returns [dtype, shape, sha256 of bytes, sha256 of values as f32 with 12345 for NaN], as in expected.json.
fn describe(t: &Stored) -> Value {
    let floats = t.to_f32().unwrap().into_iter().map(|x| if x.is_nan() { 12345.0 } else { x });
    let floats: Vec<u8> = floats.flat_map(f32::to_le_bytes).collect();
    serde_json::json!([t.dtype.name(), t.shape, sha(t.bytes().unwrap()), sha(&floats)])
}

#[test]
fn tensors_equal_torch_and_safetensors() {
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(data("expected.json")).unwrap()).unwrap();
    let mut complaints = vec![];
    for (file, want) in expected {
        let got = match Checkpoint::open(&data(&file)) {
            Ok(checkpoint) => checkpoint,
            Err(e) => {
                complaints.push(e.to_string());
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
                complaints.push(format!("{file}: {what}: {got}, not {want}"));
            }
        }
        for (name, want) in want["tensors"].as_object().unwrap() {
            let got = tensors.get(name);
            if got != Some(want) {
                complaints.push(format!("{file}: {name}: {got:?}, not {want}"));
            }
        }
    }
    assert_no_failures(complaints);
}

#[test]
fn contiguous_data_stays_mapped() {
    let gathered = ["transposed", "sliced", "expanded", "column", "empty"];
    let mut complaints = vec![];
    for file in ["shapes.zip.pth", "shapes.legacy.pth", "dtypes.zip.pth", "dtypes.safetensors", "flownet.pkl"] {
        for (name, t) in Checkpoint::open(&data(file)).unwrap().iter() {
            let plain = !gathered.contains(&name) || file.ends_with(".safetensors");
            match &t.location {
                Location::Memory(_) if !plain => {}
                Location::File { path, offset, .. } if plain => {
                    let offset = *offset as usize;
                    let there = &fs::read(path).unwrap()[offset..offset + t.len_bytes() as usize];
                    if there != t.bytes().unwrap() || **path != data(file).canonicalize().unwrap() {
                        complaints.push(format!("{file}: {name}: other bytes at {offset} of {path:?}"));
                    }
                }
                other => complaints.push(format!("{file}: {name}: {other:?}")),
            }
        }
    }
    assert_no_failures(complaints);
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
fn the_fingerprint_depends_on_file_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    fs::copy(data("dtypes.safetensors"), &path).unwrap();
    let open = || Checkpoint::open(&path).unwrap();
    let first = open().fingerprint();
    assert_eq!((first.len(), first == open().fingerprint()), (64, true));
    assert_ne!(first, open().renamed(|n| Some(format!("x.{n}"))).unwrap().fingerprint());
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(first, open().fingerprint());
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

/// Opens a path and expects a one-line error that contains `want` and the file name. Returns the failure.
fn open_failure(path: &Path, want: &str) -> Option<String> {
    let name = path.file_name().unwrap().to_string_lossy();
    match Checkpoint::open(path) {
        Ok(t) => Some(format!("{name}: read {} tensors, wanted: {want}", t.len())),
        Err(e) => {
            let e = e.to_string();
            let good = e.contains(want) && e.contains(&*name) && !e.contains('\n') && e.len() < 700;
            (!good).then(|| format!("{name}: wanted: {want}\n    got: {e}"))
        }
    }
}

#[test]
fn invalid_seeds_give_a_one_line_error() {
    let table = [
        ("torch_legacy/system.0.pkl", "pickle wants `posix.system`; only tensors are read"),
        ("torch_legacy/system.1.pkl", "pickle wants `posix.system`; only tensors are read"),
        ("torch_legacy/system.2.pkl", "pickle wants `posix.system`; only tensors are read"),
        ("torch_legacy/system.4.pkl", "pickle wants `posix.system`; only tensors are read"),
        ("torch_legacy/system.5.pkl", "pickle wants `posix.system`; only tensors are read"),
        ("torch_legacy/not-torch.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/deep.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/bomb.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/lie.extent.pth", "tensor `a`: shape [11] of f32 does not lie within its storage `root`"),
        ("torch_legacy/lie.offset.pth", "tensor `a`: shape [10] of f32 does not lie within its storage `root`"),
        ("torch_legacy/lie.stride.pth", "tensor `a`: shape [2, 4] of f32 does not lie within its storage `root`"),
        ("torch_legacy/lie.negative.pth", "tensor `a`: shape [2] of f32 does not lie within its storage `root`"),
        ("torch_legacy/lie.expanded.pth", "tensor `a`: shape [1073741824] takes more bytes than the whole file holds"),
        ("torch_legacy/lie.overflow.pth", "tensor `a`: shape [4611686018427387904, 4] of f32 does not lie within"),
        ("torch_legacy/lie.rank.pth", "tensor `a`: shape [2, 2] of f32 does not lie within its storage `root`"),
        ("torch_legacy/lie.count.pth", "tensor `a`: storage `root` is said to have 11 elements; the file has 10"),
        ("torch_legacy/lie.view.pth", "tensor `a`: storage `root` has 10 elements; 7 from 4 on are wanted"),
        ("torch_legacy/lie.view-end.pth", "tensor `a`: shape [4] of f32 does not lie within its storage `root`"),
        ("torch_legacy/big-endian.pth", "torch legacy file does not say that it is little-endian"),
        ("torch_legacy/left-over.pth", "1 bytes after the last storage belong to none"),
        ("torch_legacy/short.pth", "cut short within storage `root`"),
        ("torch_zip/system.pth", "pickle wants `posix.system`; only tensors are read"),
        ("torch_zip/deflated.pth", "is compressed, which torch never writes"),
        ("torch_zip/big-endian.pth", "byte order is `big`"),
        ("torch_zip/no-pickle.pth", "is a zip file, but none that torch wrote"),
        ("torch_zip/script.pt", "is a TorchScript program"),
        ("torch_zip/lone-tensor.pth", "holds no dictionary of tensors"),
        ("torch_zip/no-tensors.pth", "holds no tensors under any key that is known; it has `epoch`"),
        ("torch_zip/complex.pth", "pickle wants `torch.ComplexFloatStorage`"),
        ("safetensors/twice.safetensors", "tensor `a` is there twice"),
        ("safetensors/overlap.safetensors", "tensor `b`: overlaps the tensor before it"),
        ("safetensors/hole.safetensors", "tensor `a`: leaves a hole before it (starts at 4, expected 0)"),
        ("safetensors/lie.safetensors", "tensor `a`: shape [3] of f32 does not take 8 bytes"),
        (
            "safetensors/overflow.safetensors",
            "tensor `a`: shape [4294967296, 4294967296, 4] of f32 does not take 8 bytes",
        ),
        ("safetensors/short.safetensors", "cut short: tensor `a` ends at byte 8 of the data, 7 are there"),
        ("safetensors/left-over.safetensors", "1 bytes after the last tensor belong to none"),
        ("safetensors/type.safetensors", "element type `F31` is not read"),
        ("safetensors/not-json.safetensors", "header is not as the format says: EOF while parsing"),
        ("safetensors/long.safetensors", "header claims 9223372036854775807 bytes; the format allows 100000000"),
    ];
    let seed = |(file, want): (&str, &str)| open_failure(&root().join("fuzz/corpus").join(file), want);
    assert_no_failures(table.into_iter().filter_map(seed).collect());
}

#[test]
fn files_that_are_not_checkpoints_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234567890\n";
    let files: [(&str, &[u8], &str); 14] = [
        ("zero.pth", b"", "is empty (0 bytes)"),
        ("lfs.safetensors", lfs, "is a Git LFS pointer, 1.2 GB of weights are missing: run git lfs pull"),
        ("lfs.bin", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, the weights are missing"),
        ("page.pth", b"\n <!DOCTYPE html><html>", "is a web page, not weights"),
        ("tiny.safetensors", b"\x08\0\0", "safetensors file of 3 bytes has no header"),
        ("cut.safetensors", b"\xff\0\0\0\0\0\0\0{\"a\"", "cut short: safetensors header of 255 bytes, 4 are there"),
        ("text.pth", b"hello", "is neither a torch zip file nor a torch legacy file (it begins with byte 0x68)"),
        ("text.txt", b"hello", "is none of the files that hold weights"),
        ("error.safetensors", b"{\"error\": \"Not Found\"}", "is JSON, not weights; download it again (it begins `{"),
        ("model.gguf", b"GGUF\x03\0\0\0", "is a GGUF file"),
        ("cut.pth", b"PK\x03\x04rest", "cut short: a zip file without its directory"),
        ("x.safetensors.index.json", b"{\"weight_map\": []}", "is no index of shards: invalid type: sequence"),
        ("z.safetensors.index.json", b"{\"weight_map\": {}}", "holds no tensors"),
        ("y.safetensors.index.json", lfs, "is a Git LFS pointer"),
    ];
    let mut complaints = vec![];
    for (name, bytes, want) in files {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        complaints.extend(open_failure(&path, want));
    }
    let (folder, pipeline) = (dir.path().join("bare"), dir.path().join("pipeline"));
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(pipeline.join("transformer")).unwrap();
    fs::write(pipeline.join("model_index.json"), "{}").unwrap();
    symlink("gone", dir.path().join("link.pth")).unwrap();
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    fs::write(dir.path().join("old.pth"), tar).unwrap();
    for (name, want) in [
        ("bare", "a folder without weights (.safetensors, .pth, .pt, .pkl, .bin, .ckpt): it is empty"),
        ("pipeline", "is a whole pipeline; name one of its components: `transformer`"),
        ("absent.pth", "No such file or directory"),
        ("link.pth", "is a link to gone, which is not there"),
        ("old.pth", "is a tar archive"),
    ] {
        complaints.extend(open_failure(&dir.path().join(name), want));
    }
    complaints.extend(open_failure(Path::new("/dev/null"), "is not a file"));
    assert_no_failures(complaints);
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
            Err("several files with weights, name one of them: `a.safetensors`, `b.safetensors`"),
        ),
        (
            &["config.json"],
            Err("a folder without weights (.safetensors, .pth, .pt, .pkl, .bin, .ckpt): it has `config.json`"),
        ),
    ];
    let mut complaints = vec![];
    for (files, want) in table {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), if file.ends_with("safetensors") { &weights } else { &torch }).unwrap();
        }
        match (Checkpoint::open(dir.path()), want) {
            (Ok(t), Ok(want)) if t.len() == want => {}
            (Err(e), Err(want)) if e.to_string().contains(want) => {}
            (got, want) => complaints.push(format!("{files:?}: {:?}, not {want:?}", got.map(|t| t.len()))),
        }
    }
    assert_no_failures(complaints);
}

#[test]
fn invalid_shards_are_rejected() {
    const ONE: &str = "diffusion_pytorch_model-00001-of-00002.safetensors";
    const TWO: &str = "diffusion_pytorch_model-00002-of-00002.safetensors";
    type Spoil = fn(&mut Value, &Path);
    let table: [(&str, Spoil, &str); 9] = [
        (
            "missing",
            |_, dir| fs::remove_file(dir.join(TWO)).unwrap(),
            "shard `diffusion_pytorch_model-00002-of-00002.safetensors` is missing",
        ),
        (
            "outside",
            |index, _| index["weight_map"]["0.bias"] = "../x.safetensors".into(),
            "shard `../x.safetensors` is not a plain file name",
        ),
        (
            "absolute",
            |index, _| index["weight_map"]["0.bias"] = "/etc/passwd".into(),
            "shard `/etc/passwd` is not a plain file name",
        ),
        ("parent", |index, _| index["weight_map"]["0.bias"] = "..".into(), "shard `..` is not a plain file name"),
        (
            "extra",
            |index, _| index["weight_map"]["zero"] = ONE.into(),
            "lacks tensors that the index places there: `zero`",
        ),
        (
            "moved",
            |index, _| index["weight_map"]["0.bias"] = TWO.into(),
            "has tensors that the index places elsewhere or nowhere: `0.bias`",
        ),
        ("size", |index, _| index["metadata"]["total_size"] = 1.into(), "total_size says 1 bytes, the shards hold 908"),
        (
            "torch",
            |_, dir| fs::write(dir.join(TWO), fs::read(data("ema.zip.pth")).unwrap()).unwrap(),
            "a torch zip file where a safetensors shard belongs",
        ),
        ("empty", |_, dir| fs::write(dir.join(TWO), "").unwrap(), "is empty (0 bytes)"),
    ];
    let mut complaints = vec![];
    for (name, spoil, want) in table {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(data("sharded")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let path = dir.path().join("diffusion_pytorch_model.safetensors.index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        spoil(&mut index, dir.path());
        fs::write(&path, index.to_string()).unwrap();
        match Checkpoint::open(dir.path()) {
            Err(e) if e.to_string().contains(want) => {}
            got => complaints.push(format!("{name}: {:?}, wanted: {want}", got.map(|t| t.len()))),
        }
    }
    assert_no_failures(complaints);
}

/// splitmix64: the same mutations on every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n.max(1) as u64) as usize
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff, b'(', b'.', b'R', b'9'][self.below(8)],
                2 => bytes.truncate(at),
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let (a, b) = (self.below(other.len()), self.below(other.len()));
                    bytes.splice(at..at, other[a.min(b)..a.max(b)].iter().copied());
                }
                _ => {
                    let end = (at + self.below(64)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        bytes
    }
}

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
    let stricter = |e: &str| e.contains("is there twice") || e.contains("element type");
    let (seeds, mut draw, mut complaints) = (seeds("safetensors"), Draw(7), vec![]);
    for round in 0..6000 {
        let bytes = if round < seeds.len() { seeds[round].clone() } else { draw.mutate(&seeds) };
        match (safetensors::read(&bytes), SafeTensors::deserialize(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                let same = |(name, view): (&str, ::safetensors::tensor::TensorView<'_>)| {
                    let at = Data::At((view.data().as_ptr() as usize - bytes.as_ptr() as usize) as u64);
                    ours.tensors.get(name).is_some_and(|t| t.shape == view.shape() && t.data == at)
                };
                if ours.tensors.len() != theirs.len() || !theirs.iter().all(same) {
                    complaints.push(format!("round {round}: {ours:?}"));
                }
            }
            (Err(_), Err(_)) => {}
            (Err(e), Ok(_)) if stricter(&e.to_string()) => {}
            (ours, theirs) => complaints.push(format!("round {round}: {ours:?}, crate: {:?}", theirs.err())),
        }
    }
    assert_no_failures(complaints);
}

#[test]
fn random_bytes_cause_no_panic_and_no_large_allocation() {
    let seeds = ["safetensors", "torch_zip", "torch_legacy"].map(seeds);
    let readers = [safetensors::read, torch_zip::read, torch_legacy::read];
    let before = LIVE.load(Relaxed);
    let mut complaints = vec![];
    for bytes in seeds.iter().flatten() {
        complaints.extend(readers.iter().filter_map(|read| read_failure(*read, bytes)));
    }
    let mut draw = Draw(20);
    for round in 0..10_000 {
        for (read, seeds) in readers.iter().zip(&seeds) {
            let bytes = draw.mutate(seeds);
            complaints.extend(read_failure(*read, &bytes).map(|e| format!("round {round}: {e}")));
        }
    }
    assert_no_failures(complaints);
    let peak = (PEAK.load(Relaxed) - before) >> 20;
    assert!(peak < 80, "{peak} MiB at the peak");
}
