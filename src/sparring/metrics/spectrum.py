"""Power spectra of images: upsampling leaves its trace in them where the eye sees none (Durall et al. 2020; Dzanic et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 1 / (12 * 255**2)  # power per frequency of rounding values in [0, 1] to bytes
CHUNK = 1 << 21  # values that are transformed at once


def spectrum(images: Tensor) -> Tensor:
    """Mean power by spatial frequency, in decibels, float64 (R,), lowest frequency first.

    images: (N, C, H, W) in [0, 1], any size, each channel by itself. The power |FFT|²/(H·W) (white noise of variance σ²
    has σ² everywhere) is averaged over rings around frequency 0, taken as 10·log₁₀ (the noise of rounding to bytes is
    its floor, so flat images are finite), and averaged over images and channels (Durall et al. 2020, sec. 3.1).
    Rings are 1/min(H, W) cycles per pixel wide and reach into the corners, √½ cycles, where checkerboards are; the mean
    brightness, frequency 0, is left out. Raises ValueError where there are no images, or only single pixels.
    """
    if images.ndim != 4 or not images.numel() or images.shape[2] * images.shape[3] < 2:
        raise ValueError(f"a spectrum needs images (N, C, H, W), not {tuple(images.shape)}")
    height, width = images.shape[2:]
    ring, share = _rings(height, width, images.device)
    total = torch.zeros(int(ring.max()) + 1, dtype=torch.float64, device=images.device)
    for chunk in images.flatten(0, 1).split(max(1, CHUNK // (height * width))):
        power = torch.fft.rfft2(chunk.float(), norm="ortho").abs().square().flatten(1).double()
        rings = torch.zeros(len(chunk), len(total), dtype=torch.float64, device=images.device)
        rings.index_add_(1, ring, power * share)
        total += 10 * (rings + NOISE).log10().sum(0)
    return total / (images.shape[0] * images.shape[1])


def spectrum_distance(real: Tensor, fake: Tensor) -> float:
    """Root mean square gap between two mean spectra, over all rings alike, in decibels; 0 where they are equal.

    real, fake: images (N, C, H, W) and (M, C, H, W) in [0, 1], of one size. One decibel is a factor of 1.26 in
    power at a typical frequency. Raises ValueError where sizes differ.
    """
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"images of one size are needed, not {tuple(real.shape[1:])} and {tuple(fake.shape[1:])}")
    return float((spectrum(real) - spectrum(fake.to(real.device))).square().mean().sqrt())


def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each frequency of a flattened real FFT: the number of its ring, and its share in that ring's mean."""
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    across = torch.fft.rfftfreq(width, dtype=torch.float64)
    radius = (down.square() + across.square()).sqrt()
    # Half a ring's offset puts the whole multiples of the lowest frequency in the middle of their rings.
    ring = (radius * min(height, width) + 0.5).floor().long()
    # A real FFT holds each column once that a full one holds twice, but for the first and (even widths) the last.
    weight = torch.full_like(radius, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    weight[0, 0] = 0.0  # the mean brightness
    there = ring[weight > 0].unique()  # far in the corners a ring may hold no frequency at all
    number = torch.searchsorted(there, ring).clamp(max=len(there) - 1).flatten()
    mass = torch.zeros(len(there), dtype=torch.float64).index_add_(0, number, weight.flatten())
    return number.to(device), (weight.flatten() / mass[number]).to(device)
