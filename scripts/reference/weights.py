#!/usr/bin/env python3
"""Writes small weight files with torch and safetensors, and the tensors that these libraries read from them.

    python scripts/reference/weights.py        # from the repository root; requires torch, safetensors

tests/data/weights/             valid files and folders; expected.json: file -> wrapper, skipped,
                                tensors -> [dtype, shape, sha256 of row-major bytes, sha256 of the values as f32]
fuzz/corpus/<reader>/           fuzzing seeds: the valid files, and invalid files
The storage keys of legacy files are memory addresses, so each run writes different bytes with the same content.
"""
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DATA = Path("tests/data/weights")
CORPUS = Path("fuzz/corpus")
NAMES = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
         torch.float8_e4m3fn: "f8_e4m3", torch.float8_e5m2: "f8_e5m2", torch.int64: "i64", torch.int32: "i32",
         torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool"}
expected = {}


def digest(t):
    return hashlib.sha256(t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def nan_free(t):
    """Replaces NaN, which has many encodings, by a number."""
    return torch.where(t.isnan(), torch.full_like(t, 12345.0), t)


def expect(file, tensors, wrapper=None, skipped=()):
    expected[file] = {"wrapper": wrapper, "skipped": sorted(skipped), "tensors": {
        k: [NAMES[v.dtype], list(v.shape), digest(v), digest(nan_free(v.detach().float()))]
        for k, v in tensors.items()}}


def all_dtypes():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, generator=g) * 3
    out = {NAMES[d]: x.to(d) for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64,
                                       torch.int32, torch.int16, torch.int8)}
    out["u8"] = torch.arange(15, dtype=torch.uint8).reshape(3, 5)
    out["bool"] = x > 0
    out["f16_special"] = torch.tensor([0., -0., float("inf"), float("-inf"), float("nan"), 6e-8, 65504.]).half()
    return out


def float8():
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    return {"e4m3": codes.view(torch.float8_e4m3fn), "e5m2": codes.clone().view(torch.float8_e5m2)}


def shapes():
    base = torch.arange(24, dtype=torch.float32)
    cube = base.reshape(2, 3, 4)
    return {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "transposed": cube.permute(2, 0, 1),
            "sliced": cube[:, 1:, ::2], "tail": base[20:], "whole": base, "expanded": base[:3, None].expand(3, 4),
            "row": base.reshape(4, 6)[1:2], "column": base.reshape(4, 6)[:, 1]}


def state(prefix=""):
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.PReLU(4), torch.nn.Conv2d(4, 3, 3))
    return OrderedDict((prefix + k, v) for k, v in net.state_dict().items())


def torch_file(name, obj, tensors, legacy=False, wrapper=None, skipped=(), **options):
    torch.save(obj, DATA / name, _use_new_zipfile_serialization=not legacy, **options)
    expect(name, tensors, wrapper, skipped)
    shutil.copy(DATA / name, CORPUS / ("torch_legacy" if legacy else "torch_zip") / name)


def torch_files():
    plain, ema = state(), {k: v * 2 for k, v in state().items()}
    torch_file("dtypes.zip.pth", all_dtypes(), all_dtypes())
    torch_file("dtypes.legacy.pth", all_dtypes(), all_dtypes(), legacy=True)
    torch_file("float8.zip.pth", float8(), float8())
    torch_file("shapes.zip.pth", shapes(), shapes())
    torch_file("shapes.legacy.pth", shapes(), shapes(), legacy=True)
    metadata = state()
    metadata._metadata = OrderedDict([("", {"version": 1})])
    torch_file("metadata.zip.pth", metadata, plain)
    torch_file("ema.zip.pth", {"params": plain, "params_ema": ema}, ema, wrapper="params_ema", skipped=["params"])
    torch_file("training.legacy.tar", {"epoch": 7, "loss": 0.25, "state_dict": state("module."), "best": [1, 2]}, plain,
               legacy=True, wrapper="state_dict", skipped=["epoch", "loss", "best"])
    torch_file("flownet.pkl", state("module."), plain)
    torch_file("netg.pt", {"model": dict(state("module.netG."), version=torch.Size([4]))},
               plain, wrapper="model", skipped=["model.version"])
    parameters = dict(torch.nn.Conv2d(2, 2, 1).named_parameters())
    torch_file("parameters.ckpt", {"net": parameters}, parameters, wrapper="net")
    torch_file("protocol4.bin", plain, plain, pickle_protocol=4)
    partly = {**state("module."), "other": torch.ones(1)}
    torch_file("partly.module.pth", partly, partly)


class Pid:
    """A storage of 10 f32 under the key `root`, or a view of it: (key, first element, number of elements)."""
    def __init__(self, view=None, count=10):
        self.count, self.view = count, view


class Tensor:
    def __init__(self, pid, offset, size, stride):
        self.args = pid, offset, size, stride, False, OrderedDict()

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.args


class LegacyPickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", torch.FloatStorage, "root", "cpu", obj.count, obj.view) if isinstance(obj, Pid) else None


def legacy(path, obj, little_endian=True, tail=b""):
    """Writes a legacy file with content that torch.save cannot write."""
    out = io.BytesIO()
    for part in (torch.serialization.MAGIC_NUMBER, 1001, {"protocol_version": 1001, "little_endian": little_endian}):
        pickle.dump(part, out, protocol=2)
    LegacyPickler(out, protocol=2).dump(obj)
    pickle.dump(["root"], out, protocol=2)
    out.write(struct.pack("<q10f", 10, *range(10)) + tail)
    path.write_bytes(out.getvalue())


def legacy_view():
    """Writes a storage that is a view of another, as torch < 0.4 did. torch.load still reads it."""
    path = DATA / "view.legacy.pth"
    legacy(path, {"view": Tensor(Pid(("view", 4, 6)), 1, (2, 2), (2, 1)), "root": Tensor(Pid(), 0, (10,), (1,))})
    expect(path.name, torch.load(path, weights_only=False))
    shutil.copy(path, CORPUS / "torch_legacy")


def zip64():
    """Copies an archive with every size and offset in zip64 fields."""
    source, target = DATA / "metadata.zip.pth", DATA / "zip64.pth"
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = 0
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            name = info.filename.replace("metadata.zip", "any root")
            new.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), old.read(info))
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits
    expect("zip64.pth", torch.load(target))
    shutil.copy(target, CORPUS / "torch_zip")


def safetensors_files():
    everything = {**all_dtypes(), **float8(), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    save_file(everything, DATA / "dtypes.safetensors", metadata={"format": "pt"})
    expect("dtypes.safetensors", load_file(DATA / "dtypes.safetensors"))
    shutil.copy(DATA / "dtypes.safetensors", CORPUS / "safetensors")
    folder = DATA / "sharded"
    folder.mkdir()
    keys = sorted(state())
    parts = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors": keys[i::2] for i in range(2)}
    for file, names in parts.items():
        save_file({k: state()[k] for k in names}, folder / file)
        shutil.copy(folder / file, CORPUS / "safetensors")
    total = sum(v.numel() * v.element_size() for v in state().values())
    index = {"metadata": {"total_size": total}, "weight_map": {k: f for f, names in parts.items() for k in names}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    expect("sharded", state())


def invalid_files():
    """Writes invalid files. tests/weights.rs has the expected error of each."""
    class System:
        def __reduce__(self):
            return os.system, ("true",)

    pickles, zipped = CORPUS / "torch_legacy", CORPUS / "torch_zip"
    for protocol in range(6):
        (pickles / f"system.{protocol}.pkl").write_bytes(pickle.dumps(System(), protocol=protocol))
    torch.save({"a": torch.ones(2), "b": System()}, zipped / "system.pth")
    (pickles / "not-torch.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    (pickles / "deep.pkl").write_bytes(b"\x80\x02)" + b"\x85" * 20000 + b".")
    # A list that contains itself ten times, then 400 nested tuples that each contain the previous one twice.
    (pickles / "bomb.pkl").write_bytes(b"\x80\x02]q\x00(" + b"h\x00" * 10 + b"e0h\x00" + b"q\x01h\x01\x86" * 400 + b".")
    invalid_tensors = {"extent": Tensor(Pid(), 0, (11,), (1,)), "offset": Tensor(Pid(), 1, (10,), (1,)),
            "stride": Tensor(Pid(), 0, (2, 4), (7, 1)), "negative": Tensor(Pid(), -1, (2,), (1,)),
            "expanded": Tensor(Pid(), 0, (1 << 30,), (0,)), "overflow": Tensor(Pid(), 0, (1 << 62, 4), (0, 1)),
            "rank": Tensor(Pid(), 0, (2, 2), (1,)), "count": Tensor(Pid(count=11), 0, (2,), (1,)),
            "view": Tensor(Pid(("view", 4, 7)), 0, (2,), (1,)), "view-end": Tensor(Pid(("view", 4, 3)), 0, (4,), (1,))}
    for name, tensor in invalid_tensors.items():
        legacy(pickles / f"lie.{name}.pth", {"a": tensor})
    good = {"a": Tensor(Pid(), 0, (10,), (1,))}
    legacy(pickles / "big-endian.pth", good, little_endian=False)
    legacy(pickles / "left-over.pth", good, tail=b"\0")
    (pickles / "short.pth").write_bytes((pickles / "left-over.pth").read_bytes()[:-2])
    with zipfile.ZipFile(DATA / "ema.zip.pth") as old:
        for name, method in (("deflated.pth", zipfile.ZIP_DEFLATED), ("big-endian.pth", zipfile.ZIP_STORED)):
            with zipfile.ZipFile(zipped / name, "w", method) as new:
                for info in old.infolist():
                    data = b"big" if info.filename.endswith("byteorder") and "big" in name else old.read(info)
                    new.writestr(zipfile.ZipInfo(info.filename), data, method)
    with zipfile.ZipFile(zipped / "no-pickle.pth", "w") as new:
        new.writestr(zipfile.ZipInfo("hello.txt"), "hello")
    torch.jit.script(torch.nn.PReLU()).save(str(zipped / "script.pt"))
    torch.save(torch.ones(3), zipped / "lone-tensor.pth")
    torch.save({"epoch": 3}, zipped / "no-tensors.pth")
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, zipped / "complex.pth")

    def header(name, text, data=b"\0" * 8):
        (CORPUS / "safetensors" / name).write_bytes(struct.pack("<Q", len(text)) + text + data)

    f32 = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    header("twice.safetensors", b'{"a":%s,"a":%s}' % (f32, f32))
    header("overlap.safetensors", b'{"a":%s,"b":%s}' % (f32, f32))
    header("hole.safetensors", b'{"a":%s}' % f32.replace(b"0,8", b"4,12"), b"\0" * 12)
    header("lie.safetensors", b'{"a":%s}' % f32.replace(b"[2]", b"[3]"))
    header("overflow.safetensors", b'{"a":%s}' % f32.replace(b"[2]", b"[4294967296,4294967296,4]"))
    header("short.safetensors", b'{"a":%s}' % f32, b"\0" * 7)
    header("left-over.safetensors", b'{"a":%s}' % f32, b"\0" * 9)
    header("type.safetensors", b'{"a":%s}' % f32.replace(b"F32", b"F31"))
    header("not-json.safetensors", b'{"a":')
    (CORPUS / "safetensors" / "long.safetensors").write_bytes(b"\xff" * 7 + b"\x7f{}")


def main():
    for folder in (DATA, CORPUS):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (DATA, *(CORPUS / name for name in ("safetensors", "torch_zip", "torch_legacy"))):
        folder.mkdir(parents=True)
    torch_files()
    legacy_view()
    zip64()
    safetensors_files()
    invalid_files()
    (DATA / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
