"""Label maps: numbers of classes as channels, where instances meet, and a colour for each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def encode_labels(values: Tensor, numbers: Tensor, count: int, instance: Tensor | None) -> Tensor:
    """Label maps (N, 1, H, W), whole numbers, as (N, count, H, W) with a 1 in the channel of each place's class.

    numbers: of `class_numbers`. instance: maps of instance numbers, whose edges become one more channel.
    """
    places = numbers[values.long().clamp_(max=len(numbers) - 1)]
    own = torch.arange(count, dtype=numbers.dtype, device=values.device).view(1, -1, 1, 1)
    made = torch.empty(len(values), count + (instance is not None), *values.shape[2:], device=values.device)
    # Compared into floats at once: maps of whole numbers between would be twice as large as what is made.
    torch.eq(places, own, out=made[:, :count])
    if instance is not None:
        made[:, count:] = instance_edges(instance.long())
    return made


def instance_edges(instance: Tensor) -> Tensor:
    """Where instances meet (Wang et al. 2018, pix2pixHD, sec. 3.3): 1 at places that differ from one of their four neighbours.

    instance: whole numbers (N, 1, H, W). Returns float32 of that shape.
    """
    edges = torch.zeros_like(instance, dtype=torch.bool)
    across, down = instance[..., 1:] != instance[..., :-1], instance[..., 1:, :] != instance[..., :-1, :]
    edges[..., 1:] |= across
    edges[..., :-1] |= across
    edges[..., 1:, :] |= down
    edges[..., :-1, :] |= down
    return edges.float()


def class_numbers(values: Sequence[int]) -> Tensor:
    """Value in a file → number of its class, int16, for values up to the largest and one more; of no class: their count."""
    table = torch.full((max(values, default=0) + 2,), len(values), dtype=torch.int16)
    for number, value in enumerate(values):
        table[value] = number
    return table


def distinct_colours(count: int) -> list[list[int]]:
    """So many RGB colours that the eye tells apart, the first one dark."""
    import colorsys

    colours = [[30, 30, 30]]
    for number in range(1, count):
        hue = (number * 0.61803398875) % 1.0  # the golden ratio: neighbours in number are far in hue
        lightness = (0.55, 0.4, 0.7)[number % 3]
        colours.append([round(255 * each) for each in colorsys.hls_to_rgb(hue, lightness, 0.75)])
    return colours[:count]
