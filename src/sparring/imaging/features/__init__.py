"""Feature spaces that images are compared in: pixels, pretrained networks, a classifier of the data itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sparring.data.dataset import Dataset
from sparring.errors import UserError, nearest
from sparring.imaging.features.classifier import open_classifier
from sparring.imaging.features.clip import open_clip
from sparring.imaging.features.dinov2 import open_dinov2
from sparring.imaging.features.inception import open_inception
from sparring.imaging.features.pixels import Pixels
from sparring.imaging.features.weights import recognise
from sparring.metrics.figure import Features, Tick
from sparring.metrics.weights import Unavailable


@dataclass(frozen=True)
class Wish:
    """What an opener may draw on.

    data: the real images, for spaces that are learnt from them. device: where networks run; None: CUDA where there is.
    download: whether weights may be fetched. progress: called with (done, all) while a space is learnt.
    """

    data: Dataset | None = None
    device: torch.device | str | None = None
    download: bool = False
    progress: Tick | None = None


def open_features(
    which: str,
    data: Dataset | None = None,
    *,
    device: torch.device | str | None = None,
    download: bool = False,
    progress: Tick | None = None,
) -> Features:
    """The space that `which` names: one of `FEATURES`, or the path of pretrained weights.

    Nothing is fetched from anywhere unless `download` says so. Arguments: see `Wish`.
    Raises UserError for an unknown name, and for weights or libraries that are not here.
    """
    wish = Wish(data, device, download, progress)
    if which in FEATURES:
        return FEATURES[which](wish)
    path = Path(which).expanduser()
    if path.exists():
        return OPENERS[recognise(path)](path, device=device)
    raise UserError(
        f"unknown features {which!r}{nearest(which, FEATURES)}; there are {', '.join(FEATURES)}, and paths of weights"
    )


def _classifier(wish: Wish) -> Features:
    if wish.data is None:
        raise Unavailable("classifier features are learnt from the real images, and there are none here")
    return open_classifier(wish.data, device=wish.device, progress=wish.progress)


def _best(wish: Wish) -> Features:
    """The first that is available, most telling first; pixels need nothing, so there is always one."""
    for name in ("dinov2", "inception", "classifier"):
        try:
            return FEATURES[name](wish)
        except Unavailable:
            continue
    return Pixels()


OPENERS = {"inception": open_inception, "dinov2": open_dinov2, "clip": open_clip}

FEATURES: dict[str, Callable[[Wish], Features]] = {
    "auto": _best,
    "pixels": lambda wish: Pixels(),
    "inception": lambda wish: open_inception(device=wish.device, download=wish.download),
    "dinov2": lambda wish: open_dinov2(device=wish.device, download=wish.download),
    "clip": lambda wish: open_clip(device=wish.device, download=wish.download),
    "classifier": _classifier,
}
