#!/usr/bin/env python3
"""Write a checkpoint with the names, shapes, dtypes and file sizes of a released one, and other weights.

    stand_in.py OUT --model flux1-dev
    stand_in.py OUT --model klein-4b --draw 1

Headers, indexes and configs are real. Without --draw the tensors' bytes are a hole in a sparse file, so that FLUX.1-dev's
33.7 GB take a few megabytes of disk: for rehearsing `export`, `plan` and `inspect`. With it they are drawn, on the scale on
which such networks start their training, and take their full size: for rehearsing runs. The tokenizers are tiny ones.
"""

import argparse
import json
import math
import shutil
import struct
from pathlib import Path

import torch
from released import RELEASES, SAFETENSORS_NAMES
from tiny import GOLDENS, as_clip_release, clip_tokenizer, qwen_tokenizer, t5_tokenizer, write_json, write_vocab


def write_sparse(path, tensors):
    """One safetensors file: length, header padded to 8 bytes, then a hole; returns the bytes of its tensors."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape in tensors:
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


def draw(name, dtype, shape, generator):
    """Weights as at the start of a training: matrices that keep a signal's size, norms of 1, biases of 0."""
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith(("bias", "running_mean")) else 1.0).to(dtype)
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=generator).mul_(fan_in**-0.5).to(dtype)


def fill(path, tensors, generator):
    """Draws the tensors into the file that `write_sparse` made."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        for name, dtype, shape in tensors:
            file.write(draw(name, dtype, shape, generator).reshape(-1).view(torch.uint8).numpy().data)


def shards_of(tensors, limit):
    """In order; a shard is closed when the next tensor would take it past `limit` bytes."""
    shards, size = [[]], 0
    for tensor in tensors:
        bytes_ = math.prod(tensor[2]) * tensor[1].itemsize
        if shards[-1] and size + bytes_ > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += bytes_
    return shards


def write_part(folder, part, generator):
    """config.json and the weights, sharded with an index where the release is; drawn if there is a generator."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", part.released_config())
    tensors = part.names_and_shapes()
    shards = shards_of(tensors, part.shard_bytes) if part.shards > 1 else [tensors]
    assert len(shards) == part.shards, f"{folder.name}: {len(shards)} shards, the release has {part.shards}"

    def write(path, tensors):
        write_sparse(path, tensors)
        if generator:
            fill(path, tensors, generator)

    if len(shards) == 1:
        write(folder / f"{part.stem}.safetensors", tensors)
    else:
        weight_map = {}
        for i, shard in enumerate(shards, 1):
            file = f"{part.stem}-{i:05}-of-{len(shards):05}.safetensors"
            write(folder / file, shard)
            weight_map |= {name: file for name, _, _ in shard}
        index = dict(metadata=dict(total_size=part.bytes), weight_map=dict(sorted(weight_map.items())))
        write_json(folder / f"{part.stem}.safetensors.index.json", index)
    print(f"  {folder.name:16} {len(tensors):5} tensors {part.bytes:15,} bytes in {len(shards)}")


def write_tokenizer(folder, kind):
    if kind == "CLIPTokenizer":
        tokenizer, vocab, merges = clip_tokenizer()
    elif kind.startswith("Qwen2"):
        tokenizer, vocab, merges = qwen_tokenizer()
    else:
        tokenizer, vocab, merges = t5_tokenizer(), None, None
    tokenizer.save_pretrained(folder)
    if vocab:
        write_vocab(folder, vocab, merges)
    if kind == "CLIPTokenizer":
        as_clip_release(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=RELEASES, default="flux1-dev")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these components and no others")
    parser.add_argument("--draw", type=int, metavar="SEED", help="draw the weights")
    args = parser.parse_args()
    if args.out.resolve().is_relative_to(GOLDENS):
        parser.error(f"{args.out}: a folder outside {GOLDENS}, please")
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f"{args.out} is not empty")
    release = RELEASES[args.model]()
    generator = None if args.draw is None else torch.Generator().manual_seed(args.draw)
    print(args.model)
    for name, part in release.parts.items():
        if not args.only or name in args.only:
            shutil.rmtree(args.out / name, ignore_errors=True)
            write_part(args.out / name, part, generator)
    for name, kind in release.tokenizers.items():
        write_tokenizer(args.out / name, kind)
    release.scheduler_class(**release.scheduler).save_pretrained(args.out / "scheduler")
    write_json(args.out / "model_index.json", release.model_index())
    used = sum(path.stat().st_blocks * 512 for path in args.out.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"  {size:,} bytes, {used:,} on disk")


if __name__ == "__main__":
    main()
