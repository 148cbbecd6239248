#!/usr/bin/env python3
"""Goldens of tiled autoencoders: what diffusers' `enable_tiling()` makes of pictures that take several tiles, in f64.

    vae_tiles.py

The tiny checkpoints of the families are used. Every picture has tiles that the edge cuts, and one is narrower than a tile.
"""

from types import SimpleNamespace

import diffusers
import torch

from families import Klein
from flux1 import noise, picture
from tiny import GOLDENS, load_checkpoint, write_golden, write_json

OUT = GOLDENS / "vae-tiles"
# (rows, columns) of the picture, side and overlap of its tiles, pixels.
SMALL = [((64, 88), 32, 8), ((24, 104), 48, 24)]
PATCHED = [((96, 144), 64, 16), ((48, 128), 64, 32)]
# Shape of a latent, of (rows, columns) of the picture.
FAMILIES = [
    ("flux1-dev", SMALL, lambda h, w: (1, 4, h // 8, w // 8)),
    ("flux2-klein", PATCHED, lambda h, w: (1, 16, h // 16, w // 16)),
    ("qwen-image", SMALL, lambda h, w: (1, 16, 1, h // 8, w // 8)),
    ("wan", [((40, 56), 32, 8), ((24, 72), 48, 24)], lambda h, w: (1, 16, 2, h // 8, w // 8)),
]


def tile(vae, side, overlap):
    """AutoencoderKL's tiles follow from its config; Wan's and Qwen-Image's are arguments."""
    if hasattr(vae, "tile_overlap_factor"):
        vae.tile_sample_min_size, vae.tile_latent_min_size = side, side // 8
        vae.tile_overlap_factor = overlap / side
        vae.enable_tiling()
    else:
        vae.enable_tiling(side, side, side - overlap, side - overlap)


def run(pipe, latents, image):
    """Latents as the decoder takes them → pictures; a picture → latents as the encoder gives them; klein's are packed."""
    if hasattr(pipe.vae, "bn"):
        return Klein().decode(pipe, latents), pipe._encode_vae_image(image, None)
    return pipe.vae.decode(latents).sample, pipe.vae.encode(image).latent_dist.mode()


def relative(some, others):
    return [((a.double() - b).abs().max() / b.double().abs().max()).item() for a, b in zip(some, others)]


def steady(pipe, shape, image):
    """Latents, and what becomes of them and the picture in f64, where f32 makes much the same of them: the tiny networks of Wan
    norm two channels at their end, and where both are near 0 they magnify rounding a thousandfold."""
    for seed in range(60, 160):
        latents = noise(seed, *shape)
        single = run(pipe, latents, image)
        pipe.vae.double()
        double = run(pipe, latents.double(), image.double())
        pipe.vae.float()
        if max(relative(single, double)) < 1e-4:
            return latents, [a.float() for a in double]
    raise AssertionError("no latents are steady")


def load(folder):
    """The pipeline, or of Wan's, whose transformer is not needed, the autoencoder alone."""
    if folder.parent.name != "wan":
        return load_checkpoint(folder)
    return SimpleNamespace(vae=diffusers.AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32))


@torch.no_grad()
def main():
    rows, tensors = [], {}
    for name, cases, shape in FAMILIES:
        pipe = load(GOLDENS / name / "model")
        for n, (size, side, overlap) in enumerate(cases):
            image = picture(*size)
            if len(shape(*size)) == 5:
                image = torch.stack([image.roll(3 * f, -1) for f in range(5 if name == "wan" else 1)], 2)
            tile(pipe.vae, side, overlap)
            latents, tiled = steady(pipe, shape(*size), image)
            pipe.vae.disable_tiling()
            apart = relative(tiled, run(pipe, latents, image))
            assert min(apart) > 1e-3, f"{name} {n}: tiles change nothing, {apart}"
            for key, value in zip(("latents", "image", "picture", "mean"), (latents, tiled[0], image, tiled[1])):
                tensors[f"{name}.{n}.{key}"] = value
            rows.append(dict(model=name, case=n, height=size[0], width=size[1], side=side, overlap=overlap))
            print(f"  {name:12} {size} decode {apart[0]:.1e} from untiled, encode {apart[1]:.1e}")
    write_golden(OUT / "goldens.safetensors", tensors)
    write_json(OUT / "cases.json", rows)


if __name__ == "__main__":
    main()
