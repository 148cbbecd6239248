"""Progressive growth of a latent, in torch: the reference of the progressive goldens.

Implements the published method (spectral activation times, DCT-II embedding, rewind) for any ratio of sizes. At ratio 2 it equals
the published formulas. Transformer, scheduler and VAE come from diffusers.
"""

import math
from dataclasses import dataclass

import torch


def dct_matrix(n):
    """Orthonormal DCT-II as a matrix, f64: coefficients = matrix @ samples."""
    k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    rows = torch.cos(math.pi * (2 * x + 1) * k / (2 * n)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows


def dct2(x):
    return dct_matrix(x.shape[-2]) @ x.double() @ dct_matrix(x.shape[-1]).T


def idct2(x):
    return dct_matrix(x.shape[-2]).T @ x.double() @ dct_matrix(x.shape[-1])


@dataclass
class Grown:
    noise: torch.Tensor
    latents: torch.Tensor
    sigma: float


def grow(latents, size, sigma, seed, rewind):
    """[…, h, w] → […, h', w'] in f32: DCT coefficients of the latent at low frequencies, σ·noise at high ones."""
    (h, w), (height, width) = latents.shape[-2:], size
    noise = torch.randn(*latents.shape[:-2], height, width, generator=torch.Generator().manual_seed(seed))
    spectrum = noise.double() * sigma
    spectrum[..., :h, :w] = dct2(latents)
    grown = idct2(spectrum)
    if rewind:
        ratio = math.sqrt(height * width / (h * w))
        gain = ratio / (1 + (ratio - 1) * sigma)
        grown, sigma = grown * gain, sigma * gain
    return Grown(noise, grown.float(), sigma)


def activation(delta, spectrum, frequency):
    """Activation σ of a frequency (cycles per side of the full latent). Above it, this frequency is noise within the tolerance
    `delta`. `spectrum`: (a, β) of the power law a·f^−β."""
    a, beta = spectrum
    power = a * frequency**-beta
    return 1 / (1 + math.sqrt(delta / (power * (1 + power - delta))))


def transition_steps(sigmas, scales, full, delta, spectrum):
    """Returns (threshold, first step) of every level after the first. `sigmas` excludes the final 0.

    A level holds frequencies up to its scale × half the smaller side of the `full` latent, before rounding of its size."""
    transitions = []
    for scale in scales[:-1]:
        threshold = activation(delta, spectrum, scale * min(full) / 2)
        transitions.append((threshold, next((i for i, s in enumerate(sigmas) if s <= threshold), len(sigmas))))
    return transitions
