#!/usr/bin/env python3
"""Writes goldens of FLUX.2-klein, Wan 2.1, Z-Image and Qwen-Image: prompts, VAEs, full and progressive runs, in f32.

    families.py [flux2-klein wan z-image qwen-image]

A latent cannot grow inside a diffusers pipeline call, so every run uses one loop around the diffusers transformer, scheduler and
VAE. A run without growth must equal the pipeline's output, and the golden stores the pipeline's tensors.
"""

import argparse

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from flux1 import fullres, noise, pack, picture, shift_of, unpack
from growth import grow, transition_steps
from tiny import (
    GOLDENS,
    HARD_PROMPTS,
    OTHER_PROMPT,
    PROMPT,
    check_picture,
    load_checkpoint,
    write_golden,
    write_json,
)

ENCODED = [PROMPT, "", "naïve café 一只红色的狐狸 🦊"]


def linspace(steps):
    return np.linspace(1, 1 / steps, steps)


class Klein:
    name, call = "flux2-klein", dict(guidance_scale=1.0, max_sequence_length=64)
    decoded = [(1, 16, 2, 3), (1, 16, 3, 1)]

    def shape(self, size):
        return (1, 16, *size)

    def grid(self, height, width):
        return height // 16, width // 16

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, max_sequence_length=64)

    def schedule(self, pipe, steps, size):
        mu = compute_empirical_mu(size[0] * size[1], steps)
        pipe.scheduler.set_timesteps(sigmas=linspace(steps), mu=mu)
        return mu

    def velocity(self, pipe, latents, t, positive, negative, case):
        ids = pipe._prepare_latent_ids(latents)
        out = pipe.transformer(
            hidden_states=pipe._pack_latents(latents), timestep=t.expand(1) / 1000, guidance=None,
            encoder_hidden_states=positive[0], txt_ids=positive[1], img_ids=ids, return_dict=False,
        )[0]  # fmt: skip
        return pipe._unpack_latents_with_ids(out, ids, *latents.shape[-2:])

    def spatial(self, pipe, latents, size):
        return pipe._unpack_latents_with_ids(latents, pipe._prepare_latent_ids(torch.zeros(1, 1, *size)), *size)

    def decode(self, pipe, latents):
        bn = pipe.vae.bn
        std = (bn.running_var + pipe.vae.config.batch_norm_eps).sqrt()
        latents = latents * std.view(1, -1, 1, 1) + bn.running_mean.view(1, -1, 1, 1)
        return pipe.vae.decode(pipe._unpatchify_latents(latents)).sample


class ZImage:
    name, call = "z-image", dict(guidance_scale=4.0, cfg_normalization=True, max_sequence_length=64)
    decoded = []  # same VAE as FLUX.1
    more = [
        ("truncated-64x96", dict(cfg_truncation=0.2, cfg_normalization=False)),
        ("loose-64x96", dict(cfg_normalization=1.5)),
        ("turbo-64x96", dict(guidance_scale=0.0, cfg_normalization=False)),
    ]

    def shape(self, size):
        return (1, 4, *size)

    def grid(self, height, width):
        return height // 8, width // 8

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, do_classifier_free_guidance=False, max_sequence_length=64)[0]

    def schedule(self, pipe, steps, size):
        pipe.scheduler.set_timesteps(sigmas=linspace(steps))

    def velocity(self, pipe, latents, t, positive, negative, case):
        time = (1000 - t.expand(2)) / 1000
        outputs = pipe.transformer([latents[0][:, None]] * 2, time, [positive[0], negative[0]], return_dict=False)[0]
        pos, neg = (out.float() for out in outputs)
        scale = 0 if time[0] > case.get("cfg_truncation", 1) else case["guidance_scale"]
        if scale == 0:
            return -pos[None, :, 0]
        combined = pos + scale * (pos - neg)
        if case["cfg_normalization"]:
            max_norm = pos.norm() * float(case["cfg_normalization"])
            combined = combined * (max_norm / combined.norm()).clamp(max=1)
        return -combined[None, :, 0]

    def spatial(self, pipe, latents, size):
        return latents

    def decode(self, pipe, latents):
        return pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample


def denormalise(pipe, latents):
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std))
    return latents / (1 / std) + mean


class QwenImage:
    name, call = "qwen-image", dict(true_cfg_scale=4.0, negative_prompt=" ", max_sequence_length=64)
    decoded = [(1, 16, 1, 4, 6), (1, 16, 1, 7, 3)]

    def shape(self, size):
        return (1, 16, *size)

    def grid(self, height, width):
        return height // 8, width // 8

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, max_sequence_length=64)

    def schedule(self, pipe, steps, size):
        mu = shift_of(pipe, *size)
        pipe.scheduler.set_timesteps(sigmas=linspace(steps), mu=mu)
        return mu

    def velocity(self, pipe, latents, t, positive, negative, case):
        size = latents.shape[-2:]
        pos, neg = (
            pipe.transformer(
                hidden_states=pack(latents), timestep=t.expand(1) / 1000, guidance=None,
                encoder_hidden_states_mask=mask, encoder_hidden_states=embeds,
                img_shapes=[[(1, size[0] // 2, size[1] // 2)]], return_dict=False,
            )[0]
            for embeds, mask in (positive, negative)
        )  # fmt: skip
        combined = neg + case["true_cfg_scale"] * (pos - neg)
        combined = combined * (pos.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))
        return unpack(combined, *size)

    def spatial(self, pipe, latents, size):
        return unpack(latents, *size)

    def decode(self, pipe, latents):
        return pipe.vae.decode(denormalise(pipe, latents[:, :, None])).sample[:, :, 0]


class Wan:
    name = "wan"
    call = dict(guidance_scale=5.0, negative_prompt="blurry sky", num_frames=5, max_sequence_length=64)
    decoded = [(1, 16, 3, 4, 6), (1, 16, 1, 7, 3)]

    def shape(self, size):
        return (1, 16, 2, *size)

    def grid(self, height, width):
        return height // 8, width // 8

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, do_classifier_free_guidance=False, max_sequence_length=64)[0]

    def schedule(self, pipe, steps, size):
        pipe.scheduler.set_timesteps(steps)

    def velocity(self, pipe, latents, t, positive, negative, case):
        pos, neg = (
            pipe.transformer(latents, timestep=t.expand(1), encoder_hidden_states=embeds, return_dict=False)[0]
            for embeds in (positive, negative)
        )
        return neg + case["guidance_scale"] * (pos - neg)

    def spatial(self, pipe, latents, size):
        return latents

    def decode(self, pipe, latents):
        return pipe.vae.decode(denormalise(pipe, latents)).sample


def pixels(decoded):
    """[1, 3, (f,) h, w] in −1…1 → uint8 [h, w, 3] or [f, h, w, 3]."""
    rounded = ((decoded[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return rounded.movedim(0, -1)


# ------------------------------------------------------------------------------------------- prompts, VAE


def tensors_in(value, prefix):
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from tensors_in(item, f"{prefix}.{i}")


def text(family, out, pipe):
    """Writes prompt N of text.json: `N.{ids,mask}` are the text encoder's inputs, `N.states` is the transformer's input."""
    tensors, inputs = {}, {}

    def hook(_module, args, kwargs):
        inputs.update(kwargs, **({"input_ids": args[0]} if args else {}))

    handle = pipe.text_encoder.register_forward_pre_hook(hook, with_kwargs=True)
    for n, prompt in enumerate(ENCODED):
        if family.name == "qwen-image" and not prompt:
            prompt = " "
        embeds = family.text(pipe, prompt)
        while isinstance(embeds, (list, tuple)):
            embeds = embeds[0]
        tensors |= {f"{n}.ids": inputs["input_ids"], f"{n}.states": embeds}
        if inputs.get("attention_mask") is not None:
            tensors[f"{n}.mask"] = inputs["attention_mask"].long()
    handle.remove()
    write_golden(out / "text.safetensors", tensors)
    prompts = [" " if family.name == "qwen-image" and not p else p for p in ENCODED]
    write_json(out / "text.json", dict(max_sequence_length=family.call["max_sequence_length"], prompts=prompts))
    rows = [dict(prompt=p, ids=pipe.tokenizer(p, truncation=True, max_length=512).input_ids) for p in HARD_PROMPTS]
    write_json(out / "tokenizers.json", dict(max_length=512, rows=rows))


def vae(family, out, pipe):
    """Writes `decode.N.{latents,image}` and `encode.N.{image,mean}`.

    `latents` are those of a run, before denormalisation. `mean` is the encoder's output."""
    tensors = {}
    for n, shape in enumerate(family.decoded):
        latents = noise(30 + n, *shape)
        run_latents = latents[:, :, 0] if family.name == "qwen-image" else latents
        tensors |= {f"decode.{n}.latents": run_latents, f"decode.{n}.image": family.decode(pipe, run_latents)}
    for n, (height, width) in enumerate([(32, 48), (48, 16)] if family.decoded else []):
        image = picture(height, width)
        if family.name in ("wan", "qwen-image"):
            frames = 5 if family.name == "wan" and n == 0 else 1
            image = torch.stack([image.roll(3 * f, -1) for f in range(frames)], 2)
        tensors |= {f"encode.{n}.image": image, f"encode.{n}.mean": pipe.vae.encode(image).latent_dist.mode()}
        if family.name == "flux2-klein":
            tensors[f"encode.{n}.latents"] = pipe._encode_vae_image(image, None)
    if tensors:
        write_golden(out / "vae.safetensors", tensors)


# --------------------------------------------------------------------------------------------------- runs


def reset(scheduler, step):
    """Clears the solver's history, which has the old latent size, and sets the step."""
    if hasattr(scheduler, "model_outputs"):
        scheduler.model_outputs = [None] * scheduler.config.solver_order
        scheduler.timestep_list = [None] * scheduler.config.solver_order
        scheduler.lower_order_nums, scheduler.last_sample, scheduler.this_order = 0, None, 0
    scheduler._step_index = step


def loop(family, pipe, case):
    """Denoises noise to a picture. The latent grows through `case["sizes"]`, if present."""
    full = family.grid(case["height"], case["width"])
    sizes, rewind = case.get("sizes", [full]), case.get("progressive_mode") == "dct_rewind"
    mu = family.schedule(pipe, case["steps"], full)
    scheduler = pipe.scheduler
    scheduler.set_begin_index(0)
    planned = scheduler.sigmas.tolist()
    levels = []
    if len(sizes) > 1:
        growth = case["progressive_scales"], full, case["progressive_delta"], case["spectrum"]
        levels = transition_steps(planned[: case["steps"]], *growth)
    positive = family.text(pipe, case["prompt"])
    negative = family.text(pipe, case.get("negative_prompt", "")) if family.name != "flux2-klein" else None
    latents, level, report = noise(case["seed"], *family.shape(sizes[0])), 0, []
    tensors = {"noise": latents}
    for step in range(case["steps"]):
        while level < len(levels) and levels[level][1] == step:
            sigma = scheduler.sigmas[step].item()
            grown = grow(latents, sizes[level + 1], sigma, case["seed"] + 10_000 * (level + 1), rewind)
            tensors |= {f"grow.{level}.before": latents, f"grow.{level}.after": grown.latents}
            report.append(dict(threshold=levels[level][0], step=step, sigma=sigma, sigma_after=grown.sigma))
            latents, level = grown.latents, level + 1
            if rewind:
                scheduler.sigmas[step], scheduler.timesteps[step] = grown.sigma, grown.sigma * 1000
            reset(scheduler, step)
        t = scheduler.timesteps[step]
        velocity = family.velocity(pipe, latents, t, positive, negative, case)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        tensors[f"latents.{step}"] = latents
    assert level == len(levels), f"{case['name']}: grew {level} of {len(levels)} times"
    tensors |= {"latents": latents, "picture": pixels(family.decode(pipe, latents))}
    return tensors, dict(
        mu=mu, sigmas=scheduler.sigmas.tolist(), timesteps=scheduler.timesteps.tolist(),
        **(dict(planned_sigmas=planned, growth=report) if levels else {}),
    )  # fmt: skip


def pipeline_run(family, pipe, case):
    """Runs the diffusers pipeline. Also records the first transformer call: `dit.in.*`, `dit.out`."""
    size = family.grid(case["height"], case["width"])
    tensors = {"noise": noise(case["seed"], *family.shape(size))}

    def hook(_module, args, kwargs, output):
        if "dit.out" not in tensors and "dit.out.0" not in tensors:
            for key, value in [*enumerate(args), *kwargs.items()]:
                tensors.update(tensors_in(value, f"dit.in.{key}"))
            tensors.update(tensors_in(output[0], "dit.out"))

    def on_step(_pipe, step, _t, kwargs):
        tensors[f"latents.{step}"] = family.spatial(pipe, kwargs["latents"], size)
        return {}

    handle = pipe.transformer.register_forward_hook(hook, with_kwargs=True)
    arguments = {k: v for k, v in case.items() if k not in ("name", "seed", "steps")}
    result = pipe(
        **arguments, num_inference_steps=case["steps"], output_type="np", callback_on_step_end=on_step,
        generator=torch.Generator().manual_seed(case["seed"]),
    )  # fmt: skip
    handle.remove()
    images = result.frames[0] if hasattr(result, "frames") else result.images[0]
    tensors["picture"] = torch.from_numpy((np.asarray(images) * 255).round().astype(np.uint8))
    tensors["latents"] = tensors[f"latents.{case['steps'] - 1}"]
    return tensors


def runs(family, out, pipe):
    rows = []
    for case in cases(family):
        tensors, report = loop(family, pipe, case)
        check_picture(case["name"], tensors["picture"])
        if "sizes" not in case:
            expected = pipeline_run(family, pipe, case)
            for key, value in tensors.items():
                error = (value.float() - expected[key].float()).abs().max().item()
                assert error <= (1 if key == "picture" else 1e-4), f"{family.name} {case['name']} {key}: {error}"
            tensors = expected
        write_golden(out / "runs" / (case["name"] + ".safetensors"), tensors)
        rows.append(case | report)
        steps = " ".join(f"{g['sigma']:.3f}→{g['sigma_after']:.3f}@{g['step']}" for g in report.get("growth", []))
        print(f"  {case['name']:22} {steps}")
    write_json(out / "runs.json", rows)


def cases(family):
    def run(name, size, seed, steps, prompt=PROMPT, **more):
        case = fullres(name, size, seed, steps, None, prompt=prompt)
        del case["guidance_scale"]
        return case | family.call | more

    def progressive(name, size, scales, steps, delta, spectrum):
        height, width = family.grid(*size)
        sizes = [(round_to_patch(height * s), round_to_patch(width * s)) for s in scales]
        more = dict(progressive_scales=scales, sizes=sizes, progressive_delta=delta)
        return run(name, size, 42, steps, progressive_mode="dct_rewind", **more, spectrum=spectrum)

    def round_to_patch(length):
        """Rounds to whole patches. The latent of FLUX.2 is already packed."""
        return round(length) if isinstance(family, Klein) else 2 * round(length / 2)

    spectrum_flat = (2.0, 1.5)
    return [
        *(run(name, (64, 96), 42, 4, **more) for name, more in getattr(family, "more", [])),
        run("fullres-64x96", (64, 96), 42, 4),
        run("fullres-96x64", (96, 64), 7, 5 if family.name == "wan" else 3, prompt=OTHER_PROMPT),
        progressive("dct-rewind-1", (64, 96 if family.name == "wan" else 128), [0.5, 1], 5, 0.05, spectrum_flat),
        progressive("dct-rewind-thirds", (96, 64), [2 / 3, 1], 5, 0.05, spectrum_flat),
    ]


@torch.no_grad()
def main():
    families = {f.name: f for f in (Klein(), Wan(), ZImage(), QwenImage())}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(families))
    for name in parser.parse_args().names or families:
        print(name)
        out, family = GOLDENS / name, families[name]
        pipe = load_checkpoint(out / "model")
        text(family, out, pipe)
        vae(family, out, pipe)
        runs(family, out, pipe)


if __name__ == "__main__":
    main()
