#!/usr/bin/env python3
"""Writes goldens of runs that start from a picture or a clip (image-to-image, video-to-video), in f32.

    start.py [flux1-dev flux2-dev flux2-klein flux2-klein-base qwen-image wan z-image]

One loop around the diffusers modules, as in families.py. A run without growth whose source has the output size must equal the output
of the image-to-image or video-to-video pipeline of diffusers. FLUX.2 has no such pipeline. Pipelines that sample the VAE posterior
use its mean here, so that the generator's first numbers are the noise.
"""

import argparse
import inspect
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import FluxImg2ImgPipeline, QwenImageImg2ImgPipeline, WanVideoToVideoPipeline, ZImageImg2ImgPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.wan import pipeline_wan_video2video
from PIL import Image

import families
import flux2
from families import linspace, pixels, reset
from flux1 import image_ids, pack, picture, shift_of, unpack
from growth import dct2, grow, idct2, transition_steps
from tiny import GOLDENS, PROMPT, check_picture, load_checkpoint, write_golden, write_json

# ftfy changes nothing in these prompts. With this stub it need not be installed.
pipeline_wan_video2video.ftfy = SimpleNamespace(fix_text=str)
DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()


class Flux1:
    name, call = "flux1-dev", dict(guidance_scale=3.5, max_sequence_length=64)

    def shape(self, size):
        return (1, 4, *size)

    def grid(self, height, width):
        return height // 8, width // 8

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, prompt_2=None, max_sequence_length=64)

    def schedule(self, pipe, steps, size):
        mu = shift_of(pipe, *size)
        pipe.scheduler.set_timesteps(sigmas=linspace(steps), mu=mu)
        return mu

    def velocity(self, pipe, latents, t, positive, negative, case):
        size = latents.shape[-2:]
        pos, neg = (
            pipe.transformer(
                hidden_states=pack(latents), timestep=t.expand(1) / 1000, encoder_hidden_states=states,
                pooled_projections=pooled, guidance=torch.full([1], case["guidance_scale"]), txt_ids=ids,
                img_ids=image_ids(*(n // 2 for n in size)), return_dict=False,
            )[0]
            for states, pooled, ids in (positive, negative)
        )  # fmt: skip
        scale = case.get("true_cfg_scale", 1)
        return unpack(neg + scale * (pos - neg) if scale > 1 else pos, *size)

    def spatial(self, pipe, latents, size):
        return unpack(latents, *size)

    def decode(self, pipe, latents):
        return pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample


class Flux1Start(Flux1):
    pipeline_class, strength = FluxImg2ImgPipeline, 0.6
    more = [("start-true-cfg", dict(negative_prompt="blurry, dark", true_cfg_scale=4.0))]

    def encode(self, pipe, image):
        return (pipe.vae.encode(image).latent_dist.mode() - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor


class ZImageStart(families.ZImage):
    pipeline_class, strength = ZImageImg2ImgPipeline, 0.6
    # Unlike text-to-image, this pipeline draws noise in the dtype of the text embeddings.
    more = [("start-bf16-noise", dict(noise_dtype="bfloat16"))]
    encode = Flux1Start.encode


def normalise(pipe, mean):
    latents_mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std))
    return (mean - latents_mean) / std


class QwenImageStart(families.QwenImage):
    pipeline_class, strength, more = QwenImageImg2ImgPipeline, 0.6, []

    def encode(self, pipe, image):
        return normalise(pipe, pipe.vae.encode(image[:, :, None]).latent_dist.mode())[:, :, 0]


class WanStart(families.Wan):
    pipeline_class, strength, more = WanVideoToVideoPipeline, 0.8, []

    def encode(self, pipe, image):
        return normalise(pipe, pipe.vae.encode(image).latent_dist.mode())


class KleinStart(families.Klein):
    pipeline_class, strength, more = None, 0.6, []

    def encode(self, pipe, image):
        return pipe._encode_vae_image(image, None)


class DevStart(flux2.Dev):
    pipeline_class, strength, more = None, 0.6, []
    encode = KleinStart.encode


class BaseStart(flux2.Base):
    pipeline_class, strength, more = None, 0.6, []
    encode = KleinStart.encode


FAMILIES = {f.name: f for f in (Flux1Start(), DevStart(), KleinStart(), BaseStart(), QwenImageStart(), WanStart(), ZImageStart())}


def source_image(family, case):
    """The source picture, uint8 [h, w, 3], or clip, [f, h, w, 3]."""
    height, width, frames = case["source"]
    moving = [picture(height, width).roll(3 * f, -1) for f in range(frames)]
    rounded = [((m[0] * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0) for m in moving]
    return torch.stack(rounded) if case["clip"] else rounded[0]


def encoder_input(family, case, image):
    """The VAE encoder's input in −1…1: [1, 3, h, w]; Wan: [1, 3, f, h, w]."""
    values = (image.numpy().astype(np.float32) / 255)
    values = 2.0 * torch.from_numpy(values) - 1.0
    if family.name != "wan":
        return values.permute(2, 0, 1)[None]
    if not case["clip"]:
        values = values[None].expand(case["num_frames"], -1, -1, -1)
    return values.permute(3, 0, 1, 2)[None]


def resized(latents, size):
    """Resizes in the DCT domain: keeps the coefficients that both sizes have, and scales them to the new size."""
    (h, w), (height, width) = latents.shape[-2:], size
    spectrum = torch.zeros(*latents.shape[:-2], height, width, dtype=torch.float64)
    rows, columns = min(h, height), min(w, width)
    spectrum[..., :rows, :columns] = dct2(latents)[..., :rows, :columns]
    return (idct2(spectrum) * (height * width / (h * w)) ** 0.5).float()


def loop(family, pipe, case, image):
    full = family.grid(case["height"], case["width"])
    mu = family.schedule(pipe, case["steps"], full)
    scheduler, steps = pipe.scheduler, case["steps"]
    first = int(steps - steps * case["strength"])
    if family.name == "wan":
        first = steps - int(steps * case["strength"])
    planned = scheduler.sigmas.tolist()
    sizes, levels, level = case.get("sizes", [full]), [], 0
    if len(sizes) > 1:
        growth = case["progressive_scales"], full, case["progressive_delta"], case["spectrum"]
        levels = transition_steps(planned[:steps], *growth)
        # Skip levels that end before the first step.
        level = sum(step <= first for _, step in levels)
    reset(scheduler, first)
    skipped = level
    positive, negative = (family.text(pipe, case.get(key, "")) for key in ("prompt", "negative_prompt"))
    start = resized(family.encode(pipe, encoder_input(family, case, image)), full)
    start = resized(start, sizes[level])
    dtype = torch.bfloat16 if case.get("noise_dtype") == "bfloat16" else torch.float32
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(case["seed"]), dtype=dtype).float()
    sigma = scheduler.sigmas[first]
    latents = sigma * noise + (1.0 - sigma) * start
    tensors, report = {"image": image, "start": start, "noise": noise}, []
    for step in range(first, steps):
        while level < len(levels) and levels[level][1] == step:
            sigma = scheduler.sigmas[step].item()
            grown = grow(latents, sizes[level + 1], sigma, case["seed"] + 10_000 * (level + 1 - skipped), True)
            report.append(dict(threshold=levels[level][0], step=step, sigma=sigma, sigma_after=grown.sigma))
            latents, level = grown.latents, level + 1
            scheduler.sigmas[step], scheduler.timesteps[step] = grown.sigma, grown.sigma * 1000
            reset(scheduler, step)
        t = scheduler.timesteps[step]
        velocity = family.velocity(pipe, latents, t, positive, negative, case)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        tensors[f"latents.{step}"] = latents
    assert level == len(levels), f"{case['name']}: grew to level {level} of {len(levels)}"
    tensors |= {"latents": latents, "picture": pixels(family.decode(pipe, latents))}
    return tensors, dict(mu=mu, first_step=first, **(dict(passed=skipped, growth=report) if levels else {}))


def pipeline_run(family, pipe, case, image, first):
    """Runs the image-to-image or video-to-video pipeline of diffusers on PIL pictures."""
    parameters = inspect.signature(family.pipeline_class.__init__).parameters
    pipeline, tensors = family.pipeline_class(**{k: v for k, v in pipe.components.items() if k in parameters}), {}
    pipeline.set_progress_bar_config(disable=True)
    size = family.grid(case["height"], case["width"])

    def on_step(_pipe, step, _t, kwargs):
        tensors[f"latents.{first + step}"] = family.spatial(pipe, kwargs["latents"], size)
        return {}

    to_pil = Image.fromarray
    frames = [to_pil(f.numpy()) for f in image] if case["clip"] else [to_pil(image.numpy())] * case.get("num_frames", 1)
    inputs = dict(video=frames) if family.name == "wan" else dict(image=frames[0])
    excluded = ("name", "seed", "steps", "source", "clip", "num_frames")
    arguments = {k: v for k, v in case.items() if k not in excluded}
    result = pipeline(
        **inputs, **arguments, num_inference_steps=case["steps"], output_type="np", callback_on_step_end=on_step,
        generator=torch.Generator().manual_seed(case["seed"]),
    )  # fmt: skip
    images = result.frames[0] if hasattr(result, "frames") else result.images[0]
    tensors["picture"] = torch.from_numpy((np.asarray(images) * 255).round().astype(np.uint8))
    tensors["latents"] = tensors[f"latents.{case['steps'] - 1}"]
    return tensors


def is_packed(family):
    """Whether one latent pixel is one patch, as in FLUX.2."""
    return isinstance(family, families.Klein)


def cases(family):
    wan = family.name == "wan"

    def run(name, shape, steps, strength=family.strength, size=(64, 96), clip=False, **more):
        base = dict(
            name=name, prompt=PROMPT, height=size[0], width=size[1], seed=42, steps=steps, strength=strength,
            source=[*shape, more.get("num_frames", 5) if clip else 1], clip=clip,
        )  # fmt: skip
        return base | family.call | more

    def progressive(name, shape, steps, strength, size, scales, delta=0.05):
        patch = 1 if is_packed(family) else 2
        sizes = [tuple(patch * round(n * s / patch) for n in family.grid(*size)) for s in scales]
        more = dict(progressive_scales=scales, sizes=sizes, progressive_delta=delta, spectrum=(2.0, 1.5))
        return run(name, shape, steps, strength, size, progressive_mode="dct_rewind", **more)

    rows = [
        run("start", (64, 96), 5),
        # The latent grows from 6×9 to 8×12; from 2×3 to 4×6 for FLUX.2.
        run("start-grown", (32, 48) if is_packed(family) else (48, 72), 4, 0.5),
        progressive("start-levels", (64, 96), 6, 0.9 if wan else 0.8, (64, 96), [0.5, 1]),
        # The first level ends before the first step.
        progressive("start-late", (64, 96), 6, 0.3, (64, 96), [0.5, 1]),
    ]
    if wan:
        rows.append(run("start-clip", (64, 96), 5, clip=True, num_frames=9))
        rows.append(run("start-clip-grown", (32, 48), 4, 0.5, clip=True))
    return rows + [run(name, (64, 96), 4, **more) for name, more in family.more]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    for name in parser.parse_args().names or FAMILIES:
        print(name)
        family, out, rows = FAMILIES[name], GOLDENS / name, []
        pipe = family.load() if hasattr(family, "load") else load_checkpoint(out / "model")
        for case in cases(family):
            image = source_image(family, case)
            tensors, report = loop(family, pipe, case, image)
            check_picture(case["name"], tensors["picture"])
            worst = ""
            if family.pipeline_class and not {"sizes", "noise_dtype"} & set(case) and case["source"][:2] == [case["height"], case["width"]]:
                expected = pipeline_run(family, pipe, case, image, report["first_step"])
                errors = {k: (expected[k].float() - tensors[k].float()).abs().max().item() for k in expected}
                assert all(e <= (1 if k == "picture" else 1e-4) for k, e in errors.items()), f"{name} {case['name']}: {errors}"
                tensors |= expected
                worst = f"equals the pipeline, maximum error {max(e for k, e in errors.items() if k != 'picture'):.1e}"
            write_golden(out / "runs" / (case["name"] + ".safetensors"), tensors)
            rows.append(case | report)
            steps = " ".join(f"{g['sigma']:.3f}→{g['sigma_after']:.3f}@{g['step']}" for g in report.get("growth", []))
            print(f"  {case['name']:22} from {report['first_step']} {steps} {worst}")
        write_json(out / "starts.json", rows)


if __name__ == "__main__":
    main()
