"""The spaces that vectors are compared in: the vectors themselves, as they are or with each column's units taken out."""

from __future__ import annotations

import torch

from sparring.core.game import Batch
from sparring.data.dataset import Dataset
from sparring.errors import UserError, nearest
from sparring.metrics.figure import Features

SPACES = ("standardised", "raw")


class Raw:
    """The values in the data's own units."""

    name, digest, resizer = "raw values", "raw-values-1", "none"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D)."""
        return Batch(features=samples["data"].float().flatten(1))


class Standardised:
    """Each column less its mean in the data, divided by its standard deviation there: columns of all units count alike.

    Columns that are constant in the data keep their units, so that a sample that leaves them is seen to.
    """

    resizer = "none"

    def __init__(self, data: Dataset) -> None:
        values = data.batch(torch.arange(len(data)), augment=False)["data"].double().flatten(1).cpu()
        self.mean = values.mean(0)
        deviation = values.std(0, correction=0)
        self.deviation = torch.where(deviation > 0, deviation, 1.0)
        self.name = "standardised values"
        self.digest = f"standardised-values-1-{data.fingerprint}"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D)."""
        data = samples["data"]
        values = (data.double().flatten(1).cpu() - self.mean) / self.deviation
        return Batch(features=values.to(device=data.device, dtype=torch.float32))


def open_features(which: str, data: Dataset) -> Features:
    """The space that `which` names: one of `SPACES`, or `auto` for the first. Raises UserError for any other."""
    if which in ("auto", "standardised"):
        return Standardised(data)
    if which == "raw":
        return Raw()
    raise UserError(f"unknown features {which!r}{nearest(which, SPACES)}; vectors have {', '.join(SPACES)}")
