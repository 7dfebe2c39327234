"""What can be measured of translations: all that of images, set against their partners, and the way there and back."""

from __future__ import annotations

from dataclasses import replace

from sparring.core.game import Batch
from sparring.imaging import metrics as imaging
from sparring.imaging.show import to_uint8
from sparring.metrics.catalogue import LOWER
from sparring.metrics.meter import Measure, Values


def _cycle_error(real: Batch, fake: Batch, seed: int) -> Values:
    """Mean |cycled - source| of images as their files would hold them, in [0, 1]."""
    there, back = (to_uint8(fake[name]).float() / 255 for name in ("source", "cycled"))
    return {"cycle_error": float((there - back).abs().mean())}


PAIRED = ("psnr", "ssim", "ms_ssim", "lpips")

MEASURES = {
    **{name: replace(each, usual=each.usual or name in PAIRED) for name, each in imaging.MEASURES.items()},
    "cycle_error": Measure(
        {"cycle_error": LOWER}, _cycle_error, needs=(), needs_fake=("source", "cycled"), resampled="fake",
        most=imaging.LOOKED_AT, within=(0.0, 1.0), usual=True,
        note="mean difference of inputs from what comes back of them (Zhu et al. 2017)",
    ),
}  # fmt: skip
