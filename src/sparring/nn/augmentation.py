"""The remedies against too few images, by the names that recipes use under `loss.augment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparring.core.both_sides import BothSides, PseudoAugmentation
from sparring.nn.ada import AdaptiveAugmentation
from sparring.nn.diffaugment import DiffAugment
from sparring.options import call, choose, resolve_named


def none() -> BothSides:
    """Both sides as they are."""
    return BothSides()


class Automatic(AdaptiveAugmentation):
    """ADA where there are fewer than `below` images, and nothing elsewhere.

    It moves five times as fast as the paper's, whose trainings are of 25 million images.
    """

    def __init__(
        self, *, operations: Sequence[str] = ("blit", "geometry", "colour"),
        p: float = 0.0, target: float | None = 0.6, speed: int = 100_000, below: int = 10_000,
    ) -> None:  # fmt: skip
        super().__init__(operations=operations, p=p, target=target, speed=speed)
        self.below = below

    def suited(self, count: int) -> BothSides:
        """This below so many images."""
        return self if count < self.below else BothSides()


AUGMENTATIONS: dict[str, Callable[..., BothSides]] = {
    "none": none,
    "auto": Automatic,
    "ada": AdaptiveAugmentation,
    "diffaugment": DiffAugment,
    "apa": PseudoAugmentation,
}


def resolve_augmentation(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`loss.augment` with the defaults of what it names filled in. Raises UserError."""
    return resolve_named(AUGMENTATIONS, spec, what="augmentation", where="loss.augment")


def build_augmentation(spec: Mapping[str, Any], count: int) -> BothSides:
    """What `loss.augment` names, for a data set of `count` images. Raises UserError."""
    own = dict(resolve_augmentation(spec))
    built: BothSides = call(choose(AUGMENTATIONS, own.pop("name"), what="augmentation"), own, where="loss.augment")
    return built.suited(count)
