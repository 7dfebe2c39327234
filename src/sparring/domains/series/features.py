"""The spaces that windows are compared in: all their values, or what they are like."""

from __future__ import annotations

import torch

from sparring.core.game import Batch
from sparring.errors import UserError, nearest
from sparring.metrics.figure import Features

SPACES = ("windows", "moments")


class Windows:
    """All values of a window, between 0 and 1, one after the other; of padded ones also which steps are their own."""

    name, digest, resizer = "values of windows", "windows-1", "none"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, T·F), or (N, T·F + T)."""
        flat = samples["data"].float().flatten(1)
        return Batch(features=torch.cat([flat, samples["mask"].to(flat)], 1) if "mask" in samples else flat)


class Moments:
    """Of each feature in a window: its mean, its deviation, and the mean size of its changes from step to step.

    Of the window's own steps; of padded ones also how many these are, as a share of a window.
    """

    name, digest, resizer = "mean, deviation and changes", "moments-1", "none"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, 3·F), or (N, 3·F + 1)."""
        x = samples["data"].float()
        if "mask" not in samples:
            return Batch(features=torch.cat([x.mean(1), x.std(1, correction=0), x.diff(dim=1).abs().mean(1)], dim=1))
        own = samples["mask"].to(x)[:, :, None]
        count = own.sum(1)
        mean = (x * own).sum(1) / count
        spread = (((x - mean[:, None]) * own).square().sum(1) / count).sqrt()
        changes = (x.diff(dim=1).abs() * own[:, 1:]).sum(1) / (count - 1).clamp(min=1)
        return Batch(features=torch.cat([mean, spread, changes, count / x.shape[1]], 1))


def open_features(which: str) -> Features:
    """The space that `which` names: one of `SPACES`, or `auto` for the first. Raises UserError for any other."""
    if which in ("auto", "windows"):
        return Windows()
    if which == "moments":
        return Moments()
    raise UserError(f"unknown features {which!r}{nearest(which, SPACES)}; series have {', '.join(SPACES)}")
