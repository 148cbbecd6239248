#!/usr/bin/env python3
"""Writes tiny upscalers in every layout of the released ones, with goldens from spandrel.

Writes tests/goldens/esrgan/: the checkpoints, cases.json (a description of each file) and goldens.safetensors with
`<case>.N.in` and `<case>.N.out`, [1, 3, h, w], 0…1, f32, unclamped. Requires `pip install spandrel torchvision`.
"""

import json
import re
from collections import OrderedDict
from pathlib import Path

import spandrel
import torch
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN.__arch import RRDB

from containers import prefixed, save_legacy, save_zip, with_metadata

OUT = Path(__file__).resolve().parents[2] / "tests/goldens/esrgan"
FEATURES, GROWTH = 6, 3
SIZES = {1: [(20, 16), (23, 17)], 2: [(12, 16), (15, 9)], 3: [(12, 10)], 4: [(12, 10), (11, 7)], 8: [(6, 5)]}

torch.set_num_threads(1)

# spandrel assumes a growth of 32 channels. The tiny files have fewer.
rrdb = RRDB.B.RRDB
RRDB.B.RRDB = lambda **arguments: rrdb(**(arguments | dict(gc=GROWTH)))


# ----------------------------------------------------------------------------------------------- networks


def random_weights(shapes, seed):
    """Random weights that keep the variance through leaky ReLUs. PReLU slopes are around 0.2."""
    generator = torch.Generator().manual_seed(seed)
    state = OrderedDict()
    for name, shape in shapes:
        weight = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            state[name + ".weight"] = weight * (1.9 / weight[0].numel()) ** 0.5
            if "conv1x1" not in name:
                state[name + ".bias"] = 0.05 * torch.randn(shape[0], generator=generator)
        else:
            state[name + ".weight"] = 0.2 + 0.1 * weight
    return state


def rrdbnet(inputs, ups, blocks, seed, plus=False):
    """Weights of an RRDBNet under Real-ESRGAN's names (basicsr RRDBNet)."""
    f, g = FEATURES, GROWTH
    shapes = [("conv_first", (f, inputs, 3, 3))]
    for block in range(blocks):
        for dense in (1, 2, 3):
            name = f"body.{block}.rdb{dense}.conv"
            shapes += [(f"{name}{i + 1}", (g if i < 4 else f, f + i * g, 3, 3)) for i in range(5)]
            shapes += [(f"{name}1x1", (g, f, 1, 1))] if plus else []
    tail = ["conv_body", *(f"conv_up{i + 1}" for i in range(ups)), "conv_hr"]
    shapes += [*((name, (f, f, 3, 3)) for name in tail), ("conv_last", (3, f, 3, 3))]
    return random_weights(shapes, seed)


def compact(features, convs, scale, seed):
    shapes = [("body.0", (features, 3, 3, 3)), ("body.1", (features,))]
    for i in range(convs):
        shapes += [(f"body.{2 * i + 2}", (features, features, 3, 3)), (f"body.{2 * i + 3}", (features,))]
    return random_weights([*shapes, (f"body.{2 * convs + 2}", (3 * scale**2, features, 3, 3))], seed)


def old_names(state):
    """Renames to the original ESRGAN names: positions in nested Sequentials."""
    ups = sum(1 for key in state if re.fullmatch(r"conv_up\d\.weight", key))
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    fixed = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    fixed |= {f"conv_up{k}": f"model.{3 * k}" for k in range(1, ups + 1)}
    fixed |= {"conv_hr": f"model.{3 * ups + 2}", "conv_last": f"model.{3 * ups + 4}"}

    def rename(key):
        layer, leaf = key.rsplit(".", 1)
        if layer in fixed:
            return f"{fixed[layer]}.{leaf}"
        block, dense, conv = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.(conv\w+)", layer).groups()
        end = conv if conv == "conv1x1" else conv + ".0"
        return f"model.1.sub.{block}.RDB{dense}.{end}.{leaf}"

    return OrderedDict((rename(key), value) for key, value in state.items())


def bsrgan_names(state):
    def rename(key):
        key = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", key)
        key = key.replace("conv_body", "trunk_conv").replace("conv_hr", "HRconv")
        return re.sub(r"^conv_up", "upconv", key)

    return OrderedDict((rename(key), value) for key, value in state.items())


# -------------------------------------------------------------------------------------------------- cases


def picture(height, width, seed):
    """A test picture of waves and an edge: [1, 3, h, w], multiples of 1/255 in 0…1."""
    y, x = torch.meshgrid(torch.arange(height) / 12, torch.arange(width) / 12, indexing="ij")
    waves = torch.stack([torch.sin((3 + c) * x + (2 + seed) * y + c) for c in range(3)])
    edge = ((x + y) % 1 < 0.5).float()
    return ((0.5 + 0.3 * waves + 0.15 * edge).clamp(0, 1) * 255).round()[None] / 255


@torch.no_grad()
def balance(state, last, evaluate):
    """Scales the last convolution so that the output has mean 0.5 and standard deviation 0.2."""
    for _ in range(2):
        values = evaluate(state)
        gain = 0.2 / values.std()
        mean = values.mean(dim=(0, 2, 3))
        weight, bias = state[last + ".weight"], state[last + ".bias"]
        repeat = len(bias) // 3
        state[last + ".weight"] = weight * gain
        state[last + ".bias"] = bias * gain + (0.5 - mean * gain).repeat_interleave(repeat)
    return state


@torch.no_grad()
def reference_output(state, image):
    return spandrel.ModelLoader().load_from_state_dict(OrderedDict(state)).model.eval()(image)


def load(path):
    """Loads a file with spandrel. spandrel rejects pickled Parameters, so torch reads that file."""
    if path.name != "compact-x1.pth":
        return spandrel.ModelLoader().load_from_file(path)
    state = torch.load(path, weights_only=True)
    return spandrel.ModelLoader().load_from_state_dict({key: value.data for key, value in state.items()})


def cases():
    """Returns case name → (state dict in Real-ESRGAN's names, facts)."""
    nets = {
        "rrdb-x4": (rrdbnet(3, 2, 2, 1), dict(architecture="rrdbnet", scale=4, blocks=2)),
        "rrdb-x2": (rrdbnet(12, 2, 1, 2), dict(architecture="rrdbnet", scale=2, blocks=1)),
        "rrdb-x1": (rrdbnet(48, 2, 1, 3), dict(architecture="rrdbnet", scale=1, blocks=1)),
        "rrdb-x8": (rrdbnet(3, 3, 1, 4), dict(architecture="rrdbnet", scale=8, blocks=1)),
        "rrdb-up1": (rrdbnet(3, 1, 1, 5), dict(architecture="rrdbnet", scale=2, blocks=1)),
        "rrdb-up0": (rrdbnet(3, 0, 1, 6), dict(architecture="rrdbnet", scale=1, blocks=1)),
        "plus-x4": (rrdbnet(3, 2, 1, 7, plus=True), dict(architecture="rrdbnet", scale=4, blocks=1)),
        "compact-x4": (compact(8, 3, 4, 11), dict(architecture="srvggnet", scale=4, blocks=3)),
        "compact-x3": (compact(10, 2, 3, 12), dict(architecture="srvggnet", scale=3, blocks=2)),
        "compact-x2": (compact(16, 2, 2, 13), dict(architecture="srvggnet", scale=2, blocks=2)),
        "compact-x1": (compact(8, 2, 1, 14), dict(architecture="srvggnet", scale=1, blocks=2)),
    }  # fmt: skip
    for name, (state, facts) in nets.items():
        if facts["architecture"] == "rrdbnet":
            last, features = "conv_last", FEATURES
            facts["growth"] = GROWTH
        else:
            last, features = f"body.{2 * facts['blocks'] + 2}", len(state["body.0.bias"])
        facts["features"] = features
        facts["parameters"] = sum(t.numel() for t in state.values())
        if name != "compact-x1" and facts["architecture"] == "srvggnet":
            state[last + ".weight"] *= 0.3  # the network adds the nearest-neighbour upsampled input
            continue
        run_names = old_names if name in ("rrdb-up0", "plus-x4") else OrderedDict
        image = picture(24, 20, 0)
        balance(state, last, lambda s, names=run_names: reference_output(names(s), image))
    return nets


def half(state):
    return OrderedDict((key, value.half()) for key, value in state.items())


def files(nets):
    """Returns file → (case, content, writer). Each container, wrapper, prefix and naming occurs at least once."""
    state = {name: net[0] for name, net in nets.items()}
    plain = with_metadata(state["compact-x2"])
    training = dict(epoch=7, lr=1e-4, betas=(0.9, 0.99), state_dict=with_metadata(prefixed("module.", plain)))
    raw_weights = OrderedDict((key, -value) for key, value in state["rrdb-x2"].items())
    parameters = OrderedDict((key, torch.nn.Parameter(value)) for key, value in state["compact-x1"].items())
    return {
        "rrdb-x4.pth": ("rrdb-x4", dict(params_ema=with_metadata(state["rrdb-x4"])), save_zip),
        "rrdb-x4-old.pth": ("rrdb-x4", old_names(state["rrdb-x4"]), save_legacy),
        "rrdb-x4-bsrgan.pth": ("rrdb-x4", prefixed("module.", bsrgan_names(state["rrdb-x4"])), save_zip),
        "rrdb-x2.pth": ("rrdb-x2", dict(params=raw_weights, params_ema=state["rrdb-x2"]), save_legacy),
        "rrdb-x1.safetensors": ("rrdb-x1", state["rrdb-x1"], save_file),
        "rrdb-x8.pth": ("rrdb-x8", dict(params=state["rrdb-x8"]), save_legacy),
        "rrdb-x8-old.pth": ("rrdb-x8", old_names(state["rrdb-x8"]), save_zip),
        "rrdb-up1-old.pth": ("rrdb-up1", old_names(state["rrdb-up1"]), save_zip),
        "rrdb-up0-old.pth": ("rrdb-up0", old_names(state["rrdb-up0"]), save_legacy),
        "plus-x4-old.pth": ("plus-x4", old_names(state["plus-x4"]), save_zip),
        "compact-x4.pth": ("compact-x4", dict(params=state["compact-x4"]), save_zip),
        "compact-x3.pth": ("compact-x3", prefixed("netG.", state["compact-x3"]), save_zip),
        "compact-x2.safetensors": ("compact-x2", plain, save_file),
        "compact-x2-legacy.pth": ("compact-x2", training, save_legacy),
        "compact-x2-f16.pth": ("compact-x2-f16", dict(params_ema=half(plain)), save_zip),
        "compact-x1.pth": ("compact-x1", parameters, save_zip),
    }


@torch.no_grad()
def write_blends(first, goldens):
    """Writes a weakly denoising partner of compact-x4 under Real-ESRGAN's name (`wdn`), and goldens of their blends.

    Like Real-ESRGAN's `dni` weights: `blend-S.out` is S × compact-x4 + (1 − S) × compact-wdn-x4."""
    second = compact(8, 3, 4, 21)
    second["body.8.weight"] *= 0.3
    save_zip(dict(params=second), OUT / "compact-wdn-x4.pth")
    for share in (0.0, 0.3, 1.0):
        state = OrderedDict((key, share * first[key] + (1 - share) * second[key]) for key in first)
        goldens[f"blend-{share}.out"] = reference_output(state, goldens["compact-x4.0.in"]).contiguous()


@torch.no_grad()
def main():
    OUT.mkdir(parents=True, exist_ok=True)
    nets = cases()
    nets["compact-x2-f16"] = nets["compact-x2"]
    goldens, rows = {}, []
    for file, (case, content, write) in files(nets).items():
        path, facts = OUT / file, nets[case][1]
        write(content, path)
        model = load(path)
        assert model.scale == facts["scale"], f"{file}: scale {model.scale}"
        for n, size in enumerate(SIZES[facts["scale"]]):
            image = picture(*size, n)
            result = model.model.float().eval()(image)
            expected = tuple(facts["scale"] * side for side in size)
            assert result.shape[-2:] == expected and result.isfinite().all() and result.std() > 0.05, f"{file}: {size}"
            golden = goldens.setdefault(f"{case}.{n}.out", result.contiguous())
            assert (golden - result).abs().max() < 1e-6, f"{file}: output differs from another file of {case}"
            goldens[f"{case}.{n}.in"] = image
        dtype = "f16" if case.endswith("f16") else "f32"
        rows.append(dict(file=file, case=case, sizes=SIZES[facts["scale"]], dtype=dtype, **facts))
        print(f"  {file:24} {path.stat().st_size / 1e3:5.0f} kB  x{model.scale} {model.architecture.id} {model.tags}")
    write_blends(nets["compact-x4"][0], goldens)
    save_file(goldens, OUT / "goldens.safetensors")
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
