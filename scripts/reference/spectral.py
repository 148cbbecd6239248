#!/usr/bin/env python3
"""Writes tests/goldens/spectral/spectral.json with scipy, PyWavelets, numpy and the schedulers of diffusers 0.42.1.

Contents: transforms, growth in each basis, activation times, progressive runs. Run from the repository root.
"""

import json
import math
from pathlib import Path

import numpy as np
import pywt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from scipy.fft import dctn, idctn

OUT = Path("tests/goldens/spectral/spectral.json")
FLUX, WAN = (203.615097, 1.915461), (219.484718, 2.422687)


def randn(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()


def digits(array, stride=1):
    return [float(f"{v:.9g}") for v in np.asarray(array).flatten()[::stride]]


def planes(function, *arrays):
    size = arrays[0].shape[:-2]
    out = [function(*(a.reshape(-1, *a.shape[-2:])[i] for a in arrays)) for i in range(int(np.prod(size)))]
    return np.stack(out).reshape(*size, *out[0].shape)


def grow_dct(x, noise):
    noise = noise.astype(np.float64)
    noise[: x.shape[0], : x.shape[1]] = dctn(x.astype(np.float64), type=2, norm="ortho")
    return idctn(noise, type=2, norm="ortho")


def grow_dwt(x, noise):
    h, w = x.shape
    details = (noise[h:, :w], noise[:h, w:], noise[h:, w:])
    return pywt.waverec2([x.astype(np.float64), tuple(d.astype(np.float64) for d in details)], "haar", mode="periodization")


def grow_fft(x, noise):
    """FFT growth. Weight per signed frequency: 1 inside the small spectrum, 1/2 at both signs of its Nyquist frequency, 0 outside."""
    (h, w), (big_h, big_w) = x.shape, noise.shape

    def weights(small, big):
        k = np.abs(np.fft.fftfreq(big, 1 / big)) * 2
        return np.where(k < small, 1.0, np.where((k == small) & (big > small), 0.5, np.where(k == small, 1.0, 0.0)))

    weight = np.outer(weights(h, big_h), weights(w, big_w))
    rows = np.fft.fftfreq(big_h, 1 / big_h).astype(int) % h
    columns = np.fft.fftfreq(big_w, 1 / big_w).astype(int) % w
    low = np.fft.fft2(x.astype(np.float64), norm="ortho")[np.ix_(rows, columns)]
    out = np.fft.ifft2(weight * low + np.sqrt(1 - weight**2) * np.fft.fft2(noise.astype(np.float64), norm="ortho"), norm="ortho")
    assert np.abs(out.imag).max() < 1e-12
    return out.real


GROW = {"dct": grow_dct, "dwt": grow_dwt, "fft": grow_fft}


def grow(transform, x, noise, sigma, rewind):
    """The published growth step for a size ratio r. Rewind multiplies latent and sigma by r/(1+(r-1)sigma)."""
    out = planes(GROW[transform], x, noise * np.float32(sigma))
    if not rewind:
        return out.astype(np.float32), float(np.float32(sigma))
    ratio = math.sqrt(np.prod(noise.shape[-2:]) / np.prod(x.shape[-2:]))
    kappa = ratio / (1 + (ratio - 1) * sigma)
    return (out * kappa).astype(np.float32), float(np.float32(kappa * sigma))


def transform_rows():
    shapes = [((1, 4, 6), 1), ((2, 5, 7), 1), ((1, 1, 9), 1), ((1, 13, 1), 1), ((2, 1, 2, 3, 4), 1), ((1, 46, 80), 37)]
    return [{"shape": shape, "stride": stride, "values": digits(planes(lambda p: dctn(p.astype(np.float64), norm="ortho"), randn(3, shape)), stride)}
            for shape, stride in shapes]  # fmt: skip


def growth_rows():
    rows = []
    for transform in GROW:
        for lead, source, target, sigma, stride in (
            ((1, 2), (4, 6), (8, 12), 0.8, 1), ((1, 1, 2), (3, 5), (6, 10), 0.25, 1), ((1,), (4, 6), (6, 9), 0.6, 1),
            ((1,), (5, 7), (8, 9), 0.9, 1), ((1,), (4, 6), (5, 6), 1.0, 1), ((1,), (4, 3), (7, 11), 0.0, 1),
            ((2,), (22, 40), (46, 80), 0.7, 53),
        ):  # fmt: skip
            if transform == "dwt" and target != (2 * source[0], 2 * source[1]):
                continue
            for rewind in (False, True):
                sigma32 = float(np.float32(sigma))
                out, after = grow(transform, randn(1, (*lead, *source)), randn(2, (*lead, *target)), sigma32, rewind)
                rows.append({"transform": transform, "from": (*lead, *source), "to": (*lead, *target), "sigma": sigma,
                             "rewind": rewind, "after": after, "stride": stride, "values": digits(out, stride)})  # fmt: skip
    return rows


def activation(spectrum, omega, delta):
    power = spectrum[0] * omega ** -spectrum[1]
    return 1 / (1 + math.sqrt(delta / (power * (1 + power - delta))))


def activation_rows():
    return [{"a": a, "beta": beta, "omega": omega, "delta": delta, "t": activation((a, beta), omega, delta)}
            for a, beta in (FLUX, WAN) for omega in (1, 7.5, 15, 16, 32, 64) for delta in (0.001, 0.01, 0.05, 0.2, 0.99)]  # fmt: skip


def euler(steps, mu=None, **config):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler


def unipc(steps, shift):
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


def run_rows():
    """Progressive runs with random velocities. Growth k draws noise from seed + 10000 k and clears the solver history.

    The spectra are invented, so that these small latents grow in the middle of a run."""
    rows = []
    for name, make, spectrum, lead in (
        ("euler", lambda: euler(10, shift=3.0), (0.5, 1.9), (1, 2)), ("unipc", lambda: unipc(12, 5.0), (0.8, 2.4), (1, 2, 3)),
    ):  # fmt: skip
        for scales, sizes, rewind, delta in (
            ([0.5, 1.0], [(4, 6), (8, 12)], True, 0.05), ([0.5, 1.0], [(4, 6), (8, 12)], False, 0.2),
            ([0.25, 0.5, 1.0], [(2, 3), (4, 6), (8, 12)], True, 0.05), ([0.25, 0.5, 1.0], [(2, 3), (4, 6), (8, 12)], True, 1e-5),
            ([0.75, 1.0], [(6, 9), (8, 12)], True, 0.1), ([0.5, 1.0], [(4, 6), (8, 12)], True, 0.999),
        ):  # fmt: skip
            scheduler, seed = make(), 42
            steps = len(scheduler.timesteps)
            scheduler.set_begin_index(0)
            given = scheduler.sigmas.tolist()
            ends = [next((i for i in range(steps) if given[i] <= activation(spectrum, s * 4.0, delta)), steps) for s in scales[:-1]]
            x, start = randn(seed, (*lead, *sizes[0])), 0
            for k, end in enumerate([*ends, steps]):
                for i in range(start, end):
                    v = torch.from_numpy(randn(100 + i, x.shape))
                    x = scheduler.step(v, scheduler.timesteps[i], torch.from_numpy(x), return_dict=False)[0].numpy()
                if k + 1 < len(sizes):
                    noise = randn(seed + 10_000 * (k + 1), (*lead, *sizes[k + 1]))
                    x, sigma = grow("dct", x, noise, scheduler.sigmas[end].item(), rewind)
                    scheduler.sigmas[end] = sigma
                    if hasattr(scheduler, "model_outputs"):
                        scheduler.model_outputs, scheduler.lower_order_nums, scheduler.last_sample = [None, None], 0, None
                    scheduler._step_index = end
                start = end
            config = {key: value for key, value in json.loads(scheduler.to_json_string()).items()}
            rows.append({"name": name, "config": config, "steps": steps, "spectrum": spectrum, "lead": lead, "scales": scales,
                         "sizes": sizes, "rewind": rewind, "delta": delta, "ends": ends, "values": digits(x)})  # fmt: skip
    return rows


def main():
    golden = {"dct": transform_rows(), "growth": growth_rows(), "activation": activation_rows(), "runs": run_rows()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes", [(r["name"], r["ends"], r["steps"]) for r in golden["runs"]])


if __name__ == "__main__":
    main()
