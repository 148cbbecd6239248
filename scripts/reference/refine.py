#!/usr/bin/env python3
"""Writes goldens of diffusion upscaling, in f32: passes that enlarge a latent or a picture and denoise it again in tiles.

    refine.py [flux1-dev flux2-klein-base qwen-image z-image]

One loop around the diffusers modules. Tiles are denoised jointly, as in MultiDiffusion (arXiv:2302.08113): every step averages the
predictions of overlapping tiles. The weights are linear ramps over the overlap.
"""

import argparse

import numpy as np
import torch

from families import reset
from flux1 import picture
from start import BaseStart, Flux1Start, QwenImageStart, ZImageStart, resized
from tiny import GOLDENS, OTHER_PROMPT, check_picture, load_checkpoint, to_uint8, write_golden, write_json

# Patch side in latent pixels; 2 by default.
PATCH = {"flux2-klein-base": 1}
FAMILIES = {f.name: f for f in (Flux1Start(), BaseStart(), QwenImageStart(), ZImageStart())}


def tile_ranges(extent, side, overlap, patch):
    """Returns (start, length) of the tiles along one axis."""
    if extent <= side:
        return [(0, extent)]
    count = -(-(extent - overlap) // (side - overlap))
    return [(k * (extent - side) // (count - 1) // patch * patch, side) for k in range(count)]


def blend_weights(tiles, extent, scale):
    """Blend weights, one row per tile: 1 outside overlaps, a linear ramp over each overlap. The rows sum to 1."""
    rows = torch.zeros(len(tiles), extent * scale, dtype=torch.float64)
    for k, (start, length) in enumerate(tiles):
        position = torch.arange(length * scale, dtype=torch.float64) + 0.5
        ramp = torch.ones_like(position)
        if k > 0:
            previous_end = sum(tiles[k - 1])
            ramp = torch.minimum(ramp, position / ((previous_end - start) * scale))
        if k + 1 < len(tiles):
            next_start = tiles[k + 1][0]
            ramp = torch.minimum(ramp, (length * scale - position) / ((start + length - next_start) * scale))
        rows[k, start * scale : (start + length) * scale] = ramp
    return rows / rows.sum(0)


class Tiles:
    def __init__(self, size, case, factor, patch):
        side, overlap = case["tile"] // factor, case["tile_overlap"] // factor
        self.size = size
        self.rows, self.columns = (tile_ranges(n, side, overlap, patch) for n in size)

    def tile(self):
        return self.rows[0][1], self.columns[0][1]

    def blend(self, compute, scale=1):
        """Blends the tiles that `compute` returns for slices in latent pixels. Each tile is `scale` times as large as its slices."""
        row_weights, column_weights = (blend_weights(w, n, scale) for w, n in zip((self.rows, self.columns), self.size))
        total = 0
        for i, (y, h) in enumerate(self.rows):
            for j, (x, w) in enumerate(self.columns):
                tile_output = compute(slice(y, y + h), slice(x, x + w)).double()
                padded = torch.zeros(*tile_output.shape[:-2], *(n * scale for n in self.size), dtype=torch.float64)
                padded[..., y * scale : (y + h) * scale, x * scale : (x + w) * scale] = tile_output
                total = total + padded * row_weights[i][:, None] * column_weights[j]
        return total.float()


def round_up(n, multiple):
    return -(-n // multiple) * multiple


class Refinement:
    def __init__(self, family, pipe, case):
        self.family, self.pipe, self.case = family, pipe, case
        self.patch = PATCH.get(family.name, 2)
        self.factor = 16 if self.patch == 1 else 8
        self.embeds = [family.text(pipe, case.get(key, "")) for key in ("prompt", "negative_prompt")]

    def tiles(self, size):
        return Tiles(tuple(size), self.case, self.factor, self.patch)

    def encode(self, planes):
        """[3, h, w] in 0…1 → latent. The picture is edge-padded to a multiple of the patch size."""
        f, multiple = self.factor, self.factor * self.patch
        h, w = planes.shape[1:]
        rows, columns = (torch.arange(round_up(n, multiple)).clamp(max=n - 1) for n in (h, w))
        planes = (2 * planes - 1)[:, rows][:, :, columns]

        def encode_tile(y, x):
            crop = planes[:, y.start * f : y.stop * f, x.start * f : x.stop * f]
            return self.family.encode(self.pipe, crop[None])

        return self.tiles((planes.shape[1] // f, planes.shape[2] // f)).blend(encode_tile)

    def decode(self, latents):
        def decode_tile(y, x):
            return (self.family.decode(self.pipe, latents[..., y, x])[0] * 0.5 + 0.5).clamp(0, 1)

        return self.tiles(latents.shape[-2:]).blend(decode_tile, self.factor)

    def denoise(self, latents, index):
        case, steps = self.case, self.case["steps"]
        tiles = self.tiles(latents.shape[-2:])
        self.family.schedule(self.pipe, steps, tiles.tile())
        scheduler, first = self.pipe.scheduler, int(steps - steps * case["strength"])
        reset(scheduler, first)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(case["seed"] + 10_000 * index))
        sigma = scheduler.sigmas[first]
        x = sigma * noise + (1 - sigma) * latents
        for t in scheduler.timesteps[first:]:
            def tile_velocity(r, c):
                return self.family.velocity(self.pipe, x[..., r, c], t, *self.embeds, case)

            x = scheduler.step(tiles.blend(tile_velocity), t, x, return_dict=False)[0]
        return x

    def run(self, image):
        """uint8 [h, w, 3] → [3, H, W] in 0…1."""
        planes = image.permute(2, 0, 1).float() / 255
        h, w = planes.shape[1:]
        if self.case["by"] == "picture":
            for k, times in enumerate(self.case["stages"]):
                planes = planes.repeat_interleave(times, 1).repeat_interleave(times, 2)
                h, w = planes.shape[1:]
                planes = self.decode(self.denoise(self.encode(planes), k))[:, :h, :w]
            return planes
        latents = self.encode(planes)
        for k, times in enumerate(self.case["stages"]):
            latents = self.denoise(resized(latents, [n * times for n in latents.shape[-2:]]), k)
        times = int(np.prod(self.case["stages"]))
        return self.decode(latents)[:, : h * times, : w * times]


def cases(family):
    call = {k: v for k, v in family.call.items() if k in ("guidance_scale", "true_cfg_scale", "negative_prompt")}
    base = dict(prompt=OTHER_PROMPT, seed=7, steps=4, strength=0.5, tile=1024, tile_overlap=256) | call
    return [
        # Sides that are not a multiple of the patch size, in two passes.
        base | dict(name="latent", by="latent", source=[20, 28], stages=[2, 2]),
        # 2×2 tiles. 60 pixels become 128 after padding, so both overlaps exceed `tile_overlap`.
        base | dict(name="picture", by="picture", source=[60, 76], stages=[2], tile=96, tile_overlap=32),
        base | dict(name="latent-tiled", by="latent", source=[64, 80], stages=[2], tile=96, tile_overlap=32, strength=0.8),
    ]  # fmt: skip


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    for name in parser.parse_args().names or FAMILIES:
        print(name)
        family, out, rows, tensors = FAMILIES[name], GOLDENS / name, [], {}
        pipe = load_checkpoint(out / "model")
        encode = pipe.encode_prompt
        pipe.encode_prompt = lambda **arguments: encode(**arguments | dict(max_sequence_length=512))
        for case in cases(family):
            if family.name == "z-image":
                case["cfg_normalization"] = False
            image = to_uint8(picture(*case["source"])[0])
            output = Refinement(family, pipe, case).run(image)
            check_picture(case["name"], (output * 255).round())
            tensors |= {f"{case['name']}.image": image, f"{case['name']}.made": (output * 65535).round().to(torch.uint16)}
            rows.append(case)
            print(f"  {case['name']:14} {tuple(output.shape)}")
        write_golden(out / "refine.safetensors", tensors)
        write_json(out / "refine.json", rows)


if __name__ == "__main__":
    main()
