"""Ways through the space of codes: from one to another, and round through several.

Normal latents lie near a sphere, and a straight line between two of them cuts through its inside, where no training
sample ever was; so their way is a great circle. Uniform latents and the mapped latents of style-based generators lie
in no such shell, and their way is straight.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch, Game
from sparring.metrics.path_length import slerp
from sparring.nn.condition import as_vector


def between_codes(game: Game, start: Batch, end: Batch, shares: Tensor) -> Batch:
    """The codes at `shares` (S,) of the ways from `start` to `end`, N codes each: N · S, the way of each code together.

    Shares from 0 to 1; beyond them the way goes on. Labels that differ are mixed in the same shares.
    """
    count, steps = start.count, len(shares)
    t = shares.to(start["code"].device, start["code"].dtype).repeat(count)

    def repeated(value: Tensor) -> Tensor:
        return value.repeat_interleave(steps, dim=0)

    one, other = repeated(start["code"]), repeated(end["code"])
    codes = {name: repeated(value) for name, value in start.items() if name not in ("code", "label")}
    codes["code"] = _along(game, one, other, t.view(-1, *[1] * (one.ndim - 1)))
    if "label" in start:
        codes["label"] = mix_labels(game, repeated(start["label"]), repeated(end["label"]), t)
    return Batch(codes)


def loop(game: Game, anchors: Batch, frames: int) -> Batch:
    """`frames` codes on a closed smooth way through the codes of `anchors`, evenly in time, the first at the first.

    A closed Catmull–Rom spline (Catmull & Rom 1974): it passes each anchor with the direction from the one before to the
    one after. Where codes lie on a sphere, the way is lifted back onto it: its length is interpolated like its anchors'.
    """
    codes, count = anchors["code"], anchors.count
    place = torch.arange(frames, device=codes.device, dtype=torch.float64) * count / frames
    first, t = place.long(), (place % 1).to(codes.dtype)
    neighbours = [(first + offset) % count for offset in (-1, 0, 1, 2)]
    before, here, there, after = (codes[index] for index in neighbours)
    way = _catmull_rom(before, here, there, after, t.view(-1, *[1] * (codes.ndim - 1)))
    size = _sphere(game, codes)
    if size:
        length = codes[:, :size].norm(dim=1, keepdim=True)
        eased = (t * t * (3 - 2 * t))[:, None]  # a straight line would turn a corner at each anchor
        wanted = torch.lerp(length[neighbours[1]], length[neighbours[2]], eased)
        way = torch.cat([F.normalize(way[:, :size], dim=1) * wanted, way[:, size:]], dim=1)
    found = {name: value[first] for name, value in anchors.items() if name not in ("code", "label")}
    if "label" in anchors:
        left, right = (anchors["label"][index] for index in neighbours[1:3])
        found["label"] = mix_labels(game, left, right, t)
    return Batch({**found, "code": way})


def mix_labels(game: Game, here: Tensor, there: Tensor, shares: Tensor) -> Tensor:
    """Labels (N,) or (N, K) on the way between two, at `shares` (N,): class numbers stay what they are where both agree."""
    if not here.is_floating_point() and not there.is_floating_point() and torch.equal(here, there):
        return here
    classes = len(game.conditions)
    return torch.lerp(as_vector(here, classes), as_vector(there, classes), shares[:, None].float())


def _along(game: Game, one: Tensor, other: Tensor, t: Tensor) -> Tensor:
    size = _sphere(game, one)
    if not size:
        return torch.lerp(one, other, t)
    # What a game adds to its latents (codes of InfoGAN) lies on no sphere.
    return torch.cat([slerp(one[:, :size], other[:, :size], t), torch.lerp(one[:, size:], other[:, size:], t)], dim=1)


def _sphere(game: Game, codes: Tensor) -> int:
    """How many of the codes' first numbers are independent normal draws; 0 for mapped and for uniform latents."""
    if codes.ndim != 2 or getattr(game, "latent_distribution", "normal") != "normal":
        return 0
    return int(getattr(game, "latent", codes.shape[1]))


def _catmull_rom(before: Tensor, here: Tensor, there: Tensor, after: Tensor, t: Tensor) -> Tensor:
    """½[2p₁ + (p₂ − p₀)t + (2p₀ − 5p₁ + 4p₂ − p₃)t² + (3p₁ − p₀ − 3p₂ + p₃)t³]."""
    linear = there - before
    square = 2 * before - 5 * here + 4 * there - after
    cubic = 3 * here - before - 3 * there + after
    return here + 0.5 * t * (linear + t * (square + t * cubic))
