//! Invalid files: each gives a one-line error that names the file and the fault.

use std::{fs, os::unix::fs::symlink, path::Path};

use crescendo::weights::Checkpoint;
use serde_json::Value;

use crate::{assert_no_failures, data, root};

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
        ("torch_legacy/system.0.pkl", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_legacy/system.1.pkl", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_legacy/system.2.pkl", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_legacy/system.4.pkl", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_legacy/system.5.pkl", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_legacy/not-torch.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/deep.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/bomb.pkl", "is a pickle that torch.save did not write"),
        ("torch_legacy/lie.extent.pth", "tensor `a`: shape [11] of f32 exceeds its storage `root`"),
        ("torch_legacy/lie.offset.pth", "tensor `a`: shape [10] of f32 exceeds its storage `root`"),
        ("torch_legacy/lie.stride.pth", "tensor `a`: shape [2, 4] of f32 exceeds its storage `root`"),
        ("torch_legacy/lie.negative.pth", "tensor `a`: shape [2] of f32 exceeds its storage `root`"),
        ("torch_legacy/lie.expanded.pth", "tensor `a`: shape [1073741824] needs more bytes than the file has"),
        ("torch_legacy/lie.overflow.pth", "tensor `a`: shape [4611686018427387904, 4] of f32 exceeds its storage"),
        ("torch_legacy/lie.rank.pth", "tensor `a`: shape [2, 2] of f32 exceeds its storage `root`"),
        ("torch_legacy/lie.count.pth", "tensor `a`: storage `root` needs 11 elements, but the file has 10"),
        ("torch_legacy/lie.view.pth", "tensor `a`: storage `root` has 10 elements, but a view needs 7 from 4 on"),
        ("torch_legacy/lie.view-end.pth", "tensor `a`: shape [4] of f32 exceeds its storage `root`"),
        ("torch_legacy/big-endian.pth", "torch legacy file is not marked as little-endian"),
        ("torch_legacy/left-over.pth", "1 unused bytes after the last storage"),
        ("torch_legacy/short.pth", "truncated within storage `root`"),
        ("torch_zip/system.pth", "pickle needs `posix.system`; only tensors are supported"),
        ("torch_zip/deflated.pth", "is compressed, which torch never writes"),
        ("torch_zip/big-endian.pth", "unsupported byte order `big`"),
        ("torch_zip/no-pickle.pth", "is a zip file without data.pkl"),
        ("torch_zip/script.pt", "is a TorchScript program"),
        ("torch_zip/lone-tensor.pth", "is not a dictionary of tensors"),
        ("torch_zip/no-tensors.pth", "has no tensors under a known key; its keys: `epoch`"),
        ("torch_zip/complex.pth", "pickle needs `torch.ComplexFloatStorage`"),
        ("safetensors/twice.safetensors", "duplicate tensor `a`"),
        ("safetensors/overlap.safetensors", "tensor `b`: overlaps the tensor before it"),
        ("safetensors/hole.safetensors", "tensor `a`: leaves a gap before it (starts at 4, expected 0)"),
        ("safetensors/lie.safetensors", "tensor `a`: shape [3] of f32 does not match its 8 bytes"),
        (
            "safetensors/overflow.safetensors",
            "tensor `a`: shape [4294967296, 4294967296, 4] of f32 does not match its 8 bytes",
        ),
        ("safetensors/short.safetensors", "truncated: tensor `a` ends at byte 8 of the data, which has 7"),
        ("safetensors/left-over.safetensors", "1 unused bytes after the last tensor"),
        ("safetensors/type.safetensors", "unsupported element type `F31`"),
        ("safetensors/not-json.safetensors", "header is invalid: EOF while parsing"),
        ("safetensors/long.safetensors", "header of 9223372036854775807 bytes exceeds the format's limit of 100000000"),
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
        ("cut.safetensors", b"\xff\0\0\0\0\0\0\0{\"a\"", "truncated: the safetensors header needs 255 bytes, got 4"),
        ("text.pth", b"hello", "is neither a torch zip file nor a torch legacy file (it begins with byte 0x68)"),
        ("text.txt", b"hello", "has no known format of weights"),
        ("error.safetensors", b"{\"error\": \"Not Found\"}", "is JSON, not weights; download it again (it begins `{"),
        ("model.gguf", b"GGUF\x03\0\0\0", "is a GGUF file"),
        ("cut.pth", b"PK\x03\x04rest", "truncated: the zip file has no directory"),
        ("x.safetensors.index.json", b"{\"weight_map\": []}", "is not an index of shards: invalid type: sequence"),
        ("z.safetensors.index.json", b"{\"weight_map\": {}}", "has no tensors"),
        ("y.safetensors.index.json", lfs, "is a Git LFS pointer"),
    ];
    let mut failures = vec![];
    for (name, bytes, want) in files {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        failures.extend(open_failure(&path, want));
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
        ("pipeline", "is a pipeline; name one of its components: `transformer`"),
        ("absent.pth", "No such file or directory"),
        ("link.pth", "is a link to gone, which is missing"),
        ("old.pth", "is a tar archive"),
    ] {
        failures.extend(open_failure(&dir.path().join(name), want));
    }
    failures.extend(open_failure(Path::new("/dev/null"), "is not a file"));
    assert_no_failures(failures);
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
            "lacks tensors that the index lists there: `zero`",
        ),
        (
            "moved",
            |index, _| index["weight_map"]["0.bias"] = TWO.into(),
            "has tensors that the index lists elsewhere or not at all: `0.bias`",
        ),
        (
            "size",
            |index, _| index["metadata"]["total_size"] = 1.into(),
            "total_size is 1 bytes, but the shards have 908",
        ),
        (
            "torch",
            |_, dir| fs::write(dir.join(TWO), fs::read(data("ema.zip.pth")).unwrap()).unwrap(),
            "is a torch zip file, but a shard must be a safetensors file",
        ),
        ("empty", |_, dir| fs::write(dir.join(TWO), "").unwrap(), "is empty (0 bytes)"),
    ];
    let mut failures = vec![];
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
            got => failures.push(format!("{name}: {:?}, wanted: {want}", got.map(|t| t.len()))),
        }
    }
    assert_no_failures(failures);
}
