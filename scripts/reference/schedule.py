#!/usr/bin/env python3
"""Writes tests/goldens/schedule/schedule.json with torch and diffusers 0.42.1.

Contents: sigmas, timesteps, mu, solver trajectories, guidance, noise digests, and the bf16 noise of older torch.
Run from the repository root.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

OUT = Path("tests/goldens/schedule/schedule.json")
FLUX = dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096)
QWEN = dict(shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02)
WAN = dict(prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2)
SHAPE = (1, 2, 3, 4)


def bits(tensor):
    return [int(v) for v in torch.as_tensor(tensor).detach().float().contiguous().flatten().numpy().view(np.uint32)]


def randn(seed, shape=SHAPE, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def euler(steps, mu=None, points=None, **config):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(sigmas=points if points is not None else np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler


def unipc(steps, mu=None, **config):
    scheduler = UniPCMultistepScheduler(**{**WAN, **config})
    scheduler.set_timesteps(steps, mu=mu)
    return scheduler


def config_of(scheduler):
    return {key: value for key, value in json.loads(scheduler.to_json_string()).items() if not isinstance(value, np.ndarray)}


def schedule_rows():
    rows = []

    def add(name, scheduler, steps, mu=None, spacing="config"):
        rows.append({"name": name, "config": config_of(scheduler), "steps": steps, "mu": mu, "spacing": spacing,
                     "sigmas": bits(scheduler.sigmas), "timesteps": bits(scheduler.timesteps)})  # fmt: skip

    for steps, seq in ((1, 4096), (2, 1024), (28, 4096), (50, 4096), (30, 2850)):
        mu = calculate_shift(seq, 256, 4096, 0.5, 1.15)
        add(f"flux1-dev {seq}", euler(steps, mu, **FLUX), steps, mu)
    for steps in (1, 4, 7):
        add("flux1-schnell", euler(steps, shift=1.0), steps)
    for steps, seq in ((4, 4096), (50, 4096), (4, 1024), (28, 8160)):
        mu = compute_empirical_mu(seq, steps)
        add(f"flux2 {seq}", euler(steps, mu, **FLUX), steps, mu)
    for steps, shift in ((9, 3.0), (50, 6.0), (28, 6.0), (1, 3.0), (33, 3.0)):
        points = get_default_z_image_sigmas(steps)
        add(f"z-image shift {shift}", euler(steps, points=points, shift=shift), steps, spacing="torch")
    for steps, seq in ((50, 4096), (30, 4096), (50, 6889), (40, 6032)):
        mu = calculate_shift(seq, 256, 8192, 0.5, 0.9)
        add(f"qwen-image {seq}", euler(steps, mu, **QWEN), steps, mu)
    add("linear time shift", euler(12, 2.5, **{**FLUX, "time_shift_type": "linear"}), 12, 2.5)
    for steps, shift in ((50, 3.0), (50, 5.0), (1, 3.0), (13, 8.0)):
        add(f"wan shift {shift}", unipc(steps, flow_shift=shift), steps)
    add("unipc dynamic", unipc(20, 0.9, use_dynamic_shifting=True, shift_terminal=0.1), 20, 0.9)
    return rows


def wan_twice(steps, shift):
    """The UniPC schedule of Wan's repository: sigma_max comes from a shifted f32 training table; f64 points are shifted again."""
    table = torch.from_numpy(1.0 - np.linspace(1, 1 / 1000, 1000)[::-1].copy()).to(torch.float32)
    table = shift * table / (1 + (shift - 1) * table)
    points = np.linspace(table[0].item(), table[-1].item(), steps + 1)[:-1]
    points = shift * points / (1 + (shift - 1) * points)
    return {"name": f"wan twice {shift}", "config": config_of(unipc(steps, flow_shift=shift)), "steps": steps, "mu": None,
            "spacing": "twice", "sigmas": bits(np.append(points, 0).astype(np.float32)),
            "timesteps": bits(torch.from_numpy(points * 1000).to(torch.int64).float())}  # fmt: skip


def trajectory(name, scheduler, dtype=torch.float32, reset=None):
    """Solver steps with random velocities. Step `reset` draws a new latent, rewinds sigma and clears the history."""
    steps = len(scheduler.timesteps)
    scheduler.set_begin_index(0)
    x, after = randn(7, dtype=dtype), []
    for i in range(steps):
        if i == reset:
            sigma = scheduler.sigmas[i].item()
            scheduler.sigmas[i] = 2 * sigma / (1 + sigma)
            x = randn(8, dtype=dtype)
            if hasattr(scheduler, "model_outputs"):
                scheduler.model_outputs, scheduler.lower_order_nums, scheduler.last_sample = [None, None], 0, None
        x = scheduler.step(randn(100 + i, dtype=dtype), scheduler.timesteps[i], x, return_dict=False)[0]
        after.append(bits(x))
    return {"name": name, "config": config_of(scheduler), "steps": steps, "mu": getattr(scheduler, "used_mu", None),
            "dtype": str(dtype).split(".")[1], "reset": reset, "after": after}  # fmt: skip


def trajectories():
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        scheduler = euler(6, 1.15, **FLUX)
        scheduler.used_mu = 1.15
        rows.append(trajectory("euler", scheduler, dtype))
    rows.append(trajectory("euler reset", euler(6, shift=3.0), reset=3))
    for steps, reset in ((1, None), (2, None), (3, None), (12, None), (12, 5), (12, 1), (12, 11), (12, 0)):
        rows.append(trajectory(f"unipc {steps} reset {reset}", unipc(steps, flow_shift=3.0), reset=reset))
    return rows


def guidance():
    shape = (2, 5, 6)
    pos, neg = randn(11, shape), randn(12, shape)
    z = pos + 4.0 * (pos - neg)
    capped = []
    for item, reference in zip(z, pos):
        limit, norm = 1.5 * torch.linalg.vector_norm(reference), torch.linalg.vector_norm(item)
        capped.append(item * (limit / norm) if norm > limit else item)
    mix = neg + 4.0 * (pos - neg)
    return {"shape": shape, "cfg": bits(neg + 5.0 * (pos - neg)), "z_image": bits(z), "z_image_capped": bits(torch.stack(capped)),
            "token_norm": bits(mix * (torch.norm(pos, dim=-1, keepdim=True) / torch.norm(mix, dim=-1, keepdim=True)))}  # fmt: skip


def old_bf16(seed, n):
    """bf16 `randn` of older torch: 8-bit uniforms, and every intermediate value in bf16."""
    raw = np.random.MT19937()
    state = raw.state
    state["state"] = {"key": np.random.RandomState(seed).get_state()[1], "pos": 624}
    raw.state = state
    uniform = lambda k: torch.from_numpy((raw.random_raw(k) & 255) / 256).to(torch.bfloat16)  # noqa: E731

    def transform(block):
        u1, u2 = 1 - block[:8], block[8:]
        radius = torch.sqrt(-2 * torch.log(u1))
        theta = (2 * math.pi * u2.double()).to(torch.bfloat16)
        return torch.cat([radius * torch.cos(theta), radius * torch.sin(theta)])

    out = uniform(n)
    for at in range(0, n - 15, 16):
        out[at : at + 16] = transform(out[at : at + 16])
    if n % 16:
        out[n - 16 :] = transform(uniform(16))
    return {"seed": seed, "n": n, "values": bits(out)}


def noise_digests():
    """sha256 of the values as little-endian f32, their sum and last value. Tests compare only the sum of float64 rows."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for seed, n in ((0, 1), (3, 15), (0, 16), (5, 17), (42, 1000), (1234567890123, 65536), (42, 65539)):
            x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=dtype)
            digest = hashlib.sha256(x.float().numpy().astype("<f4").tobytes()).hexdigest()
            rows.append({"dtype": str(dtype).split(".")[1], "seed": seed, "n": n, "sha256": digest,
                         "sum": x.double().sum().item(), "last": x[-1].item()})  # fmt: skip
    shared = torch.Generator().manual_seed(5)
    calls = [bits(torch.randn(n, generator=shared)) for n in (3, 4, 16, 2)]
    return {"rows": rows, "shared_seed_5_calls_3_4_16_2": calls}


def main():
    mus = [{"seq": seq, "steps": steps, "mu": compute_empirical_mu(seq, steps)}
           for seq, steps in ((4096, 50), (4096, 28), (4096, 4), (1024, 4), (8160, 9), (4300, 30), (4301, 30))]  # fmt: skip
    lines = [{"seq": seq, "flux": calculate_shift(seq, 256, 4096, 0.5, 1.15), "qwen": calculate_shift(seq, 256, 8192, 0.5, 0.9)}
             for seq in (256, 1024, 4096, 6032, 16384)]  # fmt: skip
    golden = {
        "torch": torch.__version__, "schedules": schedule_rows() + [wan_twice(50, 3.0), wan_twice(50, 5.0), wan_twice(7, 8.0)],
        "empirical_mu": mus, "linear_mu": lines, "trajectories": trajectories(), "guidance": guidance(),
        "old_bf16": [old_bf16(0, 32), old_bf16(42, 37)], "noise": noise_digests(),
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
