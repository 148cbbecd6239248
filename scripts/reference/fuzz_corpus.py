"""Writes the seeds of the fuzz targets in fuzz/corpus, except for those of weight files (weights.py). Needs ffmpeg and a build.

    python3 scripts/reference/fuzz_corpus.py target/release/crescendo
"""
import collections
import json
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

BINARY = Path(sys.argv[1]).resolve()
CORPUS = Path("fuzz/corpus")
GOLDENS = Path("tests/goldens")
PICTURES = Path("tests/data/media")


def write(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# --- networks: class, config.json, names and shapes

class Shapes(pickle.Unpickler):
    """Reads a pickle of tensors as their shapes."""

    def persistent_load(self, _):
        return None

    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda _storage, _offset, size, *_: tuple(size)
        return collections.OrderedDict if name == "OrderedDict" else (lambda *_: None)


def shapes(path):
    if path.suffix == ".safetensors":
        data = path.read_bytes()
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        return {name: t["shape"] for name, t in header.items() if name != "__metadata__"}
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        tensors = Shapes(archive.open(name)).load()
    tensors = tensors.get("params_ema", tensors.get("params", tensors))
    return {name: shape for name, shape in tensors.items() if shape is not None}


def network(name, kind, config, files):
    lines = [f"{n} {','.join(map(str, s))}" for path in sorted(files) for n, s in shapes(path).items()]
    write("graph", name, "\n".join([kind, json.dumps(config, separators=(",", ":"))] + lines))


for name in ["compact-x2.safetensors", "rrdb-x1.safetensors", "plus-x4-old.pth"]:
    network(name.split(".")[0], "file", {}, [GOLDENS / "esrgan" / name])
network("rife", "file", {}, [GOLDENS / "rife/4.22.lite/flownet.pkl"])
for family, component in [("flux1-schnell", "transformer"), ("flux1-schnell", "vae"), ("flux1-schnell", "text_encoder"),
                          ("flux1-schnell", "text_encoder_2"), ("flux2-klein", "transformer"), ("wan", "transformer"),
                          ("wan", "vae"), ("z-image", "transformer"), ("qwen-image", "transformer"),
                          ("flux2-klein", "text_encoder")]:
    folder = GOLDENS / family / "model"
    kind = json.loads((folder / "model_index.json").read_text())[component][1]
    config = json.loads((folder / component / "config.json").read_text())
    network(f"{family}-{component}", kind, config, (folder / component).glob("*.safetensors"))

# --- files of checkpoints: the numbers are those of fuzz/targets/models.rs

families = ["flux1-dev", "flux1-schnell", "flux2-dev", "flux2-klein", "qwen-image", "wan", "z-image"]
for number, family in enumerate(families):
    folder = GOLDENS / family / "model"
    texts = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".txt"))
    for file, path in enumerate(texts):
        config = path.name in ("config.json", "scheduler_config.json", "model_index.json", "tokenizer_config.json")
        tokenizer = (family, path.name) in [("flux1-dev", "tokenizer.json"), ("flux1-dev", "merges.txt"),
                                            ("flux1-dev", "model.safetensors.index.json"), ("qwen-image", "vocab.json")]
        if config or tokenizer:
            inside = "-".join(path.relative_to(folder).parts)
            write("model", f"{family}-{inside}", bytes([number, file]) + path.read_bytes())

# --- pictures

for name in ["bits.png", "clear.png", "cmyk.jpg", "comment.jpg", "grey_alpha16.png", "lossless.webp", "lossy.webp", "moving.gif",
             "moving.png", "moving.webp", "pages.tiff", "palette.png", "palette.tif", "progressive.jpg", "rgb.bmp", "rgb.tiff"]:
    write("picture", name, (PICTURES / name).read_bytes())
for name in ["moving.gif", "moving.png", "moving.webp"]:
    write("animation", name, (PICTURES / name).read_bytes())


def entry(tag, kind, count, value):
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")[:4]


def directory(entries, following=0):
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)


long = struct.Struct("<I").pack
main = [entry(0x10F, 2, 10, long(200)), entry(0x112, 3, 1, b"\6\0"), entry(0x8769, 4, 1, long(90)), entry(0x8825, 4, 1, long(150))]
block = (b"II*\0" + long(8) + directory(main)).ljust(90, b"\0") + directory([entry(0x9286, 7, 14, long(220))])
block = block.ljust(150, b"\0") + directory([entry(1, 2, 2, b"N\0")])
block = block.ljust(200, b"\0") + b"Crescendo\0".ljust(20, b"\0") + b"ASCII\0\0\0Steps:"
write("exif", "little", block)
write("exif", "loop", b"II*\0" + long(8) + directory([entry(0x8769, 4, 1, long(8))], 8))
write("exif", "shared", b"II*\0" + long(8) + directory([entry(tag, 7, 4096, long(0)) for tag in range(0x10F, 0x12F)]).ljust(4096, b"\0"))
write("exif", "big", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0")

# --- text

for number, (name, text) in enumerate([
    ("flags.yaml", "prompt: [a lake, 'a fox']\nwidth: 512\ncfg_scale: 3.5\nno-audio: true\nanchor: &a {x: 1}\nalias: *a\n"),
    ("flags.toml", "prompt = ['a lake', \"a fox\"]\nwidth = 512\ncfg_scale = 3.5\n[table]\nwhen = 2024-01-01T00:00:00Z\n"),
    ("flags.json", '{"prompt": ["a lake", "a \\u00e9"], "width": 512, "cfg_scale": 3.5, "none": null, "deep": [[[[]]]]}'),
]):
    write("config", name, bytes([number]) + text.encode())
write("config", "deep.yaml", b"\0" + b"[" * 2000)
write("config", "deep.toml", b"\1a = " + b"[" * 2000)
write("config", "aliases.yaml", "\0a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: [*d, *d]\n")
write("prompts", "lines", "\ufeffa serene mountain lake\r\n\n  “quoted” &amp;amp; schoÌˆn ﬁne ＡＢＣ \n日本語 😀 e\u0301\n")
write("prompts", "tokens", "<|endoftext|><|im_start|>user\n</s><pad> ▁▁ \u202e\u200d\0 \U0010ffff\n" + "word " * 90)

# --- times: see fuzz/targets/times.rs


def number(value):
    count = next(n for n in range(9) if n == 0 and value == 0 or n and -(1 << 8 * n - 1) <= value < 1 << 8 * n - 1)
    return bytes([count]) + value.to_bytes(count, "little", signed=True)


def times(base, rate, stamps, header=(0, 0, 0), span=(-1, -1), last=0, output=b"\0"):
    head = b"".join(map(number, [*base, *rate, 30000, 1001, *header, *span])) + b"\0" + number(last) + output
    steps = [stamps[0]] + [b - a for a, b in zip(stamps, stamps[1:])]
    return head + b"".join(map(number, steps))


grid = b"\2" + number(12) + number(5)
write("timing", "even", times((1, 1000), (25, 1), range(0, 2000, 40), last=40))
write("timing", "range", times((1, 90000), (25, 1), range(900, 90000, 3600), span=(200, 800), last=3600, output=b"\1\2"))
write("timing", "uneven", times((1, 1000), (25, 1), [0, 40, 93, 120, 500, 541], last=40, output=grid))
write("timing", "edges", times((1, 2**31 - 1), (2**31 - 1, 1), [-(2**63), 0, 2**63 - 1][:1] + [0], (1, -1, 2**62), (0, 2**60)))
write("timing", "claims", times((1, 25), (25, 1), [0], (0, 0, 2**62), (1000, 2**50)))

# --- journals


def line(**record):
    return json.dumps(record, separators=(",", ":")) + "\n"


record = {"output": "x/1.png", "input": "a" * 64, "stamp": "1.2.3", "models": "b" * 64, "settings": "c" * 64, "hash": "d" * 64,
          "bytes": 123, "modified": 1700000000000000000, "frames": 1}
write("journal", "two", line(**record) + line(**{**record, "output": "2.mp4"}))
write("journal", "torn", line(**record) + line(**record)[:40])
write("journal", "blank", "\n\n{}\nnull\n\0\n" + line(**{**record, "bytes": 2**64}))


def run(folder, arguments, chunks):
    """Runs until the journal has as many chunks, and kills. Returns the folder of the chunks."""
    found = folder / ".out.mkv.chunks"
    command = [BINARY, "enhance", "clip.mkv", "-o", "out.mkv", "--quiet", *arguments]
    process = subprocess.Popen(command, cwd=folder)
    while process.poll() is None:
        journal = found / "chunks.jsonl"
        if journal.exists() and journal.read_bytes().count(b"\n") > chunks:
            process.kill()
            process.wait()
            return found
        time.sleep(0.0005)
    sys.exit(f"{arguments}: the run ended before {chunks} chunks")


with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    made = "-v error -f lavfi -i testsrc2=s=32x32:r=25:d=4 -c:v ffv1 clip.mkv"
    subprocess.run(["ffmpeg", *made.split()], cwd=folder, check=True)
    plain = ["--upscale", "1.5", "--filter", "nearest", "--chunk", "0.5"]
    chunks = run(folder, plain, 4)
    write("chunk_journal", "keep", (chunks / "chunks.jsonl").read_bytes())
    write("packets", "x264", (chunks / "00001").read_bytes())
    shutil.rmtree(chunks)
    rife = (GOLDENS / "rife/4.22.lite/flownet.pkl").resolve()
    chunks = run(folder, ["--interpolate", "60fps", "--frame-interpolation-model-path", rife, "--dedup", "--chunk", "0.5"], 4)
    write("chunk_journal", "grid", (chunks / "chunks.jsonl").read_bytes())
    shutil.rmtree(chunks)
    chunks = run(folder, [*plain, "--codec", "ffv1", "--verify"], 3)
    write("chunk_journal", "lossless", (chunks / "chunks.jsonl").read_bytes())
packet = struct.pack("<qqqiI", 0, -1, 1, 1, 1) + struct.pack("<II", 1, 3) + b"abc" + struct.pack("<I", 4) + b"data"
write("packets", "side-data", b"crescendo packets 1\n" + struct.pack("<I", 4) + b"head" + packet * 2)
write("packets", "claims", b"crescendo packets 1\n" + struct.pack("<I", 1 << 30) + b"head")
