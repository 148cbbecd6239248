#!/usr/bin/env python3
"""Writes a checkpoint with the names, shapes, dtypes and file sizes of a release, but without its weights.

    stand_in.py OUT --model flux1-dev
    stand_in.py OUT --model klein-4b --draw 1

Headers, indexes and configs are those of the release. The tokenizers are tiny. Without --draw, the tensor data is a hole in a
sparse file: the 33.7 GB of FLUX.1-dev take a few megabytes of disk. This is enough for `export`, `plan` and `inspect`. With --draw,
the weights are random at the scale of an untrained network and take their full size. This is enough for runs.
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
    """Writes one sparse safetensors file: length, header padded to 8 bytes, hole. Returns the size of the tensor data in bytes."""
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


def random_weight(name, dtype, shape, generator):
    """Weights of an untrained network: variance-preserving matrices, norm weights of 1, biases of 0."""
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith(("bias", "running_mean")) else 1.0).to(dtype)
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=generator).mul_(fan_in**-0.5).to(dtype)


def write_random_weights(path, tensors, generator):
    """Writes random tensors into a file of `write_sparse`."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        for name, dtype, shape in tensors:
            file.write(random_weight(name, dtype, shape, generator).reshape(-1).view(torch.uint8).numpy().data)


def shards_of(tensors, limit):
    """Splits the tensors, in order, into shards of at most `limit` bytes."""
    shards, size = [[]], 0
    for tensor in tensors:
        nbytes = math.prod(tensor[2]) * tensor[1].itemsize
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += nbytes
    return shards


def write_component(folder, component, generator):
    """Writes config.json and the weights, sharded like the release. `generator`: None for sparse files."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", component.released_config())
    tensors = component.names_and_shapes()
    shards = shards_of(tensors, component.shard_bytes) if component.shards > 1 else [tensors]
    assert len(shards) == component.shards, f"{folder.name}: {len(shards)} shards, the release has {component.shards}"

    def write(path, tensors):
        write_sparse(path, tensors)
        if generator:
            write_random_weights(path, tensors, generator)

    if len(shards) == 1:
        write(folder / f"{component.stem}.safetensors", tensors)
    else:
        weight_map = {}
        for i, shard in enumerate(shards, 1):
            file = f"{component.stem}-{i:05}-of-{len(shards):05}.safetensors"
            write(folder / file, shard)
            weight_map |= {name: file for name, _, _ in shard}
        index = dict(metadata=dict(total_size=component.bytes), weight_map=dict(sorted(weight_map.items())))
        write_json(folder / f"{component.stem}.safetensors.index.json", index)
    print(f"  {folder.name:16} {len(tensors):5} tensors {component.bytes:15,} bytes in {len(shards)}")


def write_tokenizer(folder, tokenizer_class):
    if tokenizer_class == "CLIPTokenizer":
        tokenizer, vocab, merges = clip_tokenizer()
    elif tokenizer_class.startswith("Qwen2"):
        tokenizer, vocab, merges = qwen_tokenizer()
    else:
        tokenizer, vocab, merges = t5_tokenizer(), None, None
    tokenizer.save_pretrained(folder)
    if vocab:
        write_vocab(folder, vocab, merges)
    if tokenizer_class == "CLIPTokenizer":
        as_clip_release(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="an empty or new folder")
    parser.add_argument("--model", choices=RELEASES, default="flux1-dev")
    parser.add_argument("--only", nargs="+", metavar="COMPONENT", help="write only these components")
    parser.add_argument("--draw", type=int, metavar="SEED", help="write random weights from this seed")
    args = parser.parse_args()
    if args.out.resolve().is_relative_to(GOLDENS):
        parser.error(f"{args.out}: use a folder outside {GOLDENS}")
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f"{args.out} is not empty")
    release = RELEASES[args.model]()
    generator = None if args.draw is None else torch.Generator().manual_seed(args.draw)
    print(args.model)
    for name, component in release.components.items():
        if not args.only or name in args.only:
            shutil.rmtree(args.out / name, ignore_errors=True)
            write_component(args.out / name, component, generator)
    for name, tokenizer_class in release.tokenizers.items():
        write_tokenizer(args.out / name, tokenizer_class)
    release.scheduler_class(**release.scheduler).save_pretrained(args.out / "scheduler")
    write_json(args.out / "model_index.json", release.model_index())
    used = sum(path.stat().st_blocks * 512 for path in args.out.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"  {size:,} bytes, {used:,} on disk")


if __name__ == "__main__":
    main()
