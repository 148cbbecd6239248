#!/usr/bin/env python3
"""Writes goldens of the tiny FLUX.1 checkpoints: tokenizers, text encoders, transformer, VAE, full and progressive runs.

All computation is in f32. The weights of flux1-schnell are stored as bf16.
"""

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from tokenizers import Tokenizer

from growth import grow, transition_steps
from tiny import (
    GOLDENS,
    HARD_PROMPTS,
    OTHER_PROMPT,
    PROMPT,
    check_picture,
    load_checkpoint,
    to_uint8,
    write_golden,
    write_json,
)

ENCODED = [
    dict(prompt=PROMPT, max_sequence_length=512),
    dict(prompt="", max_sequence_length=32),
    dict(prompt="naïve café 一只红色的狐狸 🦊", max_sequence_length=48),
    dict(prompt="the quick brown fox jumps over the lazy dog " * 30, max_sequence_length=256),
]


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unpack(tokens, height, width):
    """[1, h/2·w/2, 4c] → [1, c, h, w]"""
    x = tokens.reshape(1, height // 2, width // 2, -1, 2, 2)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(1, -1, height, width)


def pack(latents):
    _, c, h, w = latents.shape
    x = latents.reshape(1, c, h // 2, 2, w // 2, 2)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(1, h // 2 * (w // 2), 4 * c)


def image_ids(rows, columns):
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None]
    return ids.reshape(-1, 3)


# --------------------------------------------------------------------------------------------- components


def tokenizers(out, pipe):
    """Writes the ids of both tokenizers. CLIP must give the same ids from vocab.json + merges.txt and from tokenizer.json."""
    fast_tokenizer = Tokenizer.from_file(str(out / "clip_tokenizer.json"))
    rows = []
    for prompt in HARD_PROMPTS:
        clip = pipe.tokenizer(prompt, max_length=77, truncation=True).input_ids
        full = pipe.tokenizer(prompt).input_ids
        assert fast_tokenizer.encode(prompt).ids == full, f"CLIP tokenizer files disagree on {prompt!r}"
        t5 = pipe.tokenizer_2(prompt, max_length=512, truncation=True).input_ids
        rows.append(dict(prompt=prompt, clip=clip, t5=t5))
    write_json(out / "tokenizers.json", dict(clip_max_length=77, t5_max_length=512, rows=rows))


def text(out, pipe):
    """Writes `N.clip.{ids,hidden,pooled}` and `N.t5.{ids,states}` of prompt N of text.json, as in the pipeline."""
    tensors = {}
    for n, row in enumerate(ENCODED):
        clip = pipe.tokenizer(row["prompt"], padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        encoded = pipe.text_encoder(clip.input_ids)
        t5 = pipe.tokenizer_2(
            row["prompt"], padding="max_length", max_length=row["max_sequence_length"], truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        t5_states = pipe.text_encoder_2(t5.input_ids)[0]
        prompt_embeds, pooled, _ = pipe.encode_prompt(
            prompt=row["prompt"], prompt_2=None, max_sequence_length=row["max_sequence_length"]
        )
        assert torch.equal(prompt_embeds, t5_states) and torch.equal(pooled, encoded.pooler_output)
        tensors |= {
            f"{n}.clip.ids": clip.input_ids, f"{n}.clip.hidden": encoded.last_hidden_state,
            f"{n}.clip.pooled": encoded.pooler_output, f"{n}.t5.ids": t5.input_ids, f"{n}.t5.states": t5_states,
        }  # fmt: skip
    assert (tensors["0.clip.pooled"] - tensors["1.clip.pooled"]).abs().max() > 0.1
    write_golden(out / "text.safetensors", tensors)
    write_json(out / "text.json", ENCODED)


def transformer(out, pipe):
    """Writes one forward pass per case: `N.in.*`, `N.out`, and the output of every block of case 0 (`0.block.…`)."""
    model, guided = pipe.transformer, pipe.transformer.config.guidance_embeds
    cases = [
        dict(rows=4, columns=6, text=40, sigma=[0.8125], guidance=[3.5], seed=1),
        dict(rows=9, columns=3, text=17, sigma=[0.0371], guidance=[1.0], seed=2),
        dict(rows=3, columns=5, text=33, sigma=[1.0, 0.4321], guidance=[3.5, 7.0], seed=3),
    ]
    tensors = {}
    for n, case in enumerate(cases):
        batch, tokens = len(case["sigma"]), case["rows"] * case["columns"]
        inputs = dict(
            hidden_states=noise(case["seed"], batch, tokens, model.config.in_channels),
            encoder_hidden_states=noise(case["seed"] + 10, batch, case["text"], model.config.joint_attention_dim),
            pooled_projections=noise(case["seed"] + 20, batch, model.config.pooled_projection_dim),
            timestep=torch.tensor(case["sigma"]),
            guidance=torch.tensor(case["guidance"]) if guided else None,
            img_ids=image_ids(case["rows"], case["columns"]),
            txt_ids=torch.zeros(case["text"], 3),
        )
        tensors |= {f"{n}.in.{key}": value for key, value in inputs.items() if value is not None}
        with BlockOutputs(model, f"{n}.block", tensors if n == 0 else {}):
            tensors[f"{n}.out"] = model(**inputs, return_dict=False)[0]
        without_positions = model(**(inputs | dict(img_ids=torch.zeros(tokens, 3))), return_dict=False)[0]
        assert (without_positions - tensors[f"{n}.out"]).abs().max() > 0.01, "the output does not depend on the positions"
        if not guided:
            del case["guidance"]
    write_golden(out / "transformer.safetensors", tensors)
    write_json(out / "transformer.json", cases)


class BlockOutputs:
    """Records the text and image streams that every block returns."""

    def __init__(self, model, prefix, into):
        self.handles = []
        for blocks_name in ("transformer_blocks", "single_transformer_blocks"):
            for i, block in enumerate(getattr(model, blocks_name)):
                self.handles.append(block.register_forward_hook(self.hook_for(f"{prefix}.{blocks_name}.{i}", into)))

    def hook_for(self, name, into):
        def hook(_module, _args, output):
            into[name + ".text"], into[name + ".image"] = (t.clone() for t in output)

        return hook

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def picture(height, width):
    """A deterministic smooth picture with edges: [1, 3, h, w] in −1…1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = [torch.sin(6 * x + 3 * y), torch.cos(9 * y - 2 * x), torch.sin(20 * x * y)]
    disc = ((x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.06).float()
    return torch.stack([0.7 * wave * (1 - disc) + disc * (0.8 - 0.6 * i) for i, wave in enumerate(waves)])[None]


def vae(out, pipe):
    """Writes `decode.N.{latents,image}` (`latents` is the decoder's input) and `encode.N.{image,mean,logvar}`."""
    tensors = {}
    for n, (h, w) in enumerate([(8, 12), (13, 6)]):
        latents = noise(30 + n, 1, 4, h, w) / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
        tensors |= {f"decode.{n}.latents": latents, f"decode.{n}.image": pipe.vae.decode(latents).sample}
    for n, (h, w) in enumerate([(64, 96), (104, 48)]):
        image = picture(h, w)
        posterior = pipe.vae.encode(image).latent_dist
        assert torch.equal(posterior.mode(), posterior.mean)
        tensors |= {
            f"encode.{n}.image": image, f"encode.{n}.mean": posterior.mean, f"encode.{n}.logvar": posterior.logvar
        }  # fmt: skip
    write_golden(out / "vae.safetensors", tensors)


# ------------------------------------------------------------------------------------------------ full runs


def full_run(pipe, case):
    """Runs the diffusers pipeline. Records `noise`, `latents.N` after step N, and `picture`."""
    h, w = case["height"] // 8, case["width"] // 8
    dtype = torch.bfloat16 if case.get("noise_dtype") == "bfloat16" else torch.float32
    initial_noise = torch.randn(1, 4, h, w, generator=torch.Generator().manual_seed(case["seed"]), dtype=dtype).float()
    tensors = {"noise": initial_noise}

    def on_step(_pipe, step, _t, kwargs):
        tensors[f"latents.{step}"] = unpack(kwargs["latents"], h, w)
        return {}

    initial_latents = dict(latents=pack(initial_noise)) if dtype is torch.bfloat16 else {}
    arguments = {k: v for k, v in case.items() if k not in ("name", "seed", "steps", "noise_dtype")}
    result = pipe(
        **arguments, **initial_latents, num_inference_steps=case["steps"], output_type="np", callback_on_step_end=on_step,
        generator=torch.Generator().manual_seed(case["seed"]),
    )  # fmt: skip
    tensors["picture"] = torch.from_numpy((result.images[0] * 255).round().astype(np.uint8))
    tensors["latents"] = tensors[f"latents.{case['steps'] - 1}"]
    return tensors, dict(
        sigmas=pipe.scheduler.sigmas.tolist(), timesteps=pipe.scheduler.timesteps.tolist(),
        mu=shift_of(pipe, h, w) if pipe.scheduler.config.use_dynamic_shifting else None,
    )  # fmt: skip


def shift_of(pipe, h, w):
    config = pipe.scheduler.config
    return calculate_shift(
        h // 2 * (w // 2), config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )


def progressive_run(pipe, case):
    """Runs with progressive growth. Also records `grow.K.{before,noise,after}` of growth K."""
    sizes, steps, rewind = case["sizes"], case["steps"], case["progressive_mode"] == "dct_rewind"
    mu = shift_of(pipe, *sizes[-1])
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    pipe.scheduler.set_begin_index(0)
    planned = pipe.scheduler.sigmas.tolist()
    growth = case["progressive_scales"], sizes[-1], case["progressive_delta"], case["spectrum"]
    levels = transition_steps(planned[:-1], *growth)
    embeds, pooled, text_ids = pipe.encode_prompt(
        prompt=case["prompt"], prompt_2=None, max_sequence_length=case["max_sequence_length"]
    )
    latents = noise(case["seed"], 1, 4, *sizes[0])
    tensors, report, level = {"noise": latents}, [], 0
    for step in range(steps):
        while level < len(levels) and levels[level][1] == step:
            sigma = pipe.scheduler.sigmas[step].item()
            grown = grow(latents, sizes[level + 1], sigma, case["seed"] + 10_000 * (level + 1), rewind)
            tensors |= {
                f"grow.{level}.before": latents, f"grow.{level}.noise": grown.noise,
                f"grow.{level}.after": grown.latents,
            }  # fmt: skip
            report.append(dict(threshold=levels[level][0], step=step, sigma=sigma, sigma_after=grown.sigma))
            latents, level = grown.latents, level + 1
            if rewind:
                pipe.scheduler.sigmas[step] = grown.sigma
                pipe.scheduler.timesteps[step] = grown.sigma * 1000
        t = pipe.scheduler.timesteps[step]
        tokens = pack(latents)
        velocity = pipe.transformer(
            hidden_states=tokens, timestep=t.expand(1) / 1000, encoder_hidden_states=embeds, pooled_projections=pooled,
            guidance=torch.full([1], case["guidance_scale"]) if pipe.transformer.config.guidance_embeds else None,
            txt_ids=text_ids, img_ids=image_ids(*(n // 2 for n in latents.shape[-2:])), return_dict=False,
        )[0]  # fmt: skip
        tokens = pipe.scheduler.step(velocity, t, tokens, return_dict=False)[0]
        latents = unpack(tokens, *latents.shape[-2:])
        tensors[f"latents.{step}"] = latents
    assert level == len(levels), f"{case['name']}: grew {level} of {len(levels)} times"
    scaled = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    tensors |= {"picture": to_uint8(pipe.vae.decode(scaled).sample[0]), "latents": latents}
    return tensors, dict(
        mu=mu, planned_sigmas=planned, sigmas=pipe.scheduler.sigmas.tolist(),
        timesteps=pipe.scheduler.timesteps.tolist(), growth=report,
    )  # fmt: skip


def fullres(name, size, seed, steps, guidance, prompt=PROMPT, tokens=64, **more):
    return dict(
        name=name, prompt=prompt, height=size[0], width=size[1], seed=seed, steps=steps, guidance_scale=guidance,
        max_sequence_length=tokens, **more,
    )  # fmt: skip


def grown(name, size, scales, levels, steps, delta, spectrum, seed, mode="dct_rewind"):
    """`levels`: rows and columns of the latent at each level; the last is the full size. `scales`: the argument values."""
    return fullres(
        name, size, seed, steps, 3.5, progressive_mode=mode, progressive_scales=scales, sizes=levels,
        progressive_delta=delta, spectrum=spectrum,
    )  # fmt: skip


# The spectrum of FLUX.1, and a flatter one with which small latents grow in the middle of a short run.
FLUX, FLAT = (203.615097, 1.915461), (2.0, 1.5)
DEV_RUNS = [
    fullres("fullres-64x96", (64, 96), 42, 4, 3.5, tokens=512),
    fullres("fullres-96x64", (96, 64), 7, 5, 1.5, prompt=OTHER_PROMPT),
    fullres("true-cfg-64x96", (64, 96), 42, 4, 3.5, negative_prompt="blurry, dark", true_cfg_scale=4.0),
    fullres("bf16-noise-96x64", (96, 64), 42, 4, 3.5, noise_dtype="bfloat16"),
    grown("dct-1", (128, 64), [0.5, 1], [(8, 4), (16, 8)], 6, 0.05, FLAT, 42, mode="dct"),
    grown("dct-rewind-1", (128, 64), [0.5, 1], [(8, 4), (16, 8)], 6, 0.05, FLAT, 42),
    grown("dct-rewind-1-flux", (64, 128), [0.5, 1], [(4, 8), (8, 16)], 5, 0.5, FLUX, 3),
    grown("dct-2", (64, 128), [0.25, 0.5, 1], [(2, 4), (4, 8), (8, 16)], 6, 0.3, (1.2, 1.2), 42, mode="dct"),
    grown("dct-rewind-2", (64, 128), [0.25, 0.5, 1], [(2, 4), (4, 8), (8, 16)], 6, 0.3, (1.2, 1.2), 42),
    grown("dct-rewind-thirds", (96, 64), [2 / 3, 1], [(8, 6), (12, 8)], 5, 0.05, FLAT, 11),
    grown("dct-rewind-same-step", (64, 128), [0.25, 0.5, 1], [(2, 4), (4, 8), (8, 16)], 4, 0.9, FLUX, 5),
]
SCHNELL_RUNS = [
    fullres("fullres-64x96", (64, 96), 42, 4, 0.0, tokens=256),
    fullres("bf16-noise-96x64", (96, 64), 9, 2, 0.0, prompt=OTHER_PROMPT, noise_dtype="bfloat16"),
    grown("dct-rewind-1", (64, 128), [0.5, 1], [(4, 8), (8, 16)], 4, 0.3, FLAT, 42),
]


def runs(out, pipe, cases):
    rows = []
    for case in cases:
        run = progressive_run if "sizes" in case else full_run
        tensors, report = run(pipe, case)
        check_picture(case["name"], tensors["picture"])
        write_golden(out / "runs" / (case["name"] + ".safetensors"), tensors)
        rows.append(case | report)
        steps = " ".join(f"{g['sigma']:.3f}→{g['sigma_after']:.3f}@{g['step']}" for g in report.get("growth", []))
        print(f"  {case['name']:22} {steps}")
    write_json(out / "runs.json", rows)


@torch.no_grad()
def main():
    for name, cases in [("flux1-dev", DEV_RUNS), ("flux1-schnell", SCHNELL_RUNS)]:
        print(name)
        out, pipe = GOLDENS / name, load_checkpoint(GOLDENS / name / "model")
        if name == "flux1-dev":
            tokenizers(out, pipe)
            text(out, pipe)
            vae(out, pipe)
        transformer(out, pipe)
        runs(out, pipe, cases)


if __name__ == "__main__":
    main()
