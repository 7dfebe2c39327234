"""What can be measured of images whatever their domain: distributions of features, and what needs the images themselves."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.imaging.show import to_uint8
from sparring.metrics import catalogue
from sparring.metrics.catalogue import HIGHER, LOWER
from sparring.metrics.meter import Measure, Value, Values
from sparring.metrics.perceptual import Lpips, open_lpips
from sparring.metrics.spectrum import spectrum_distance
from sparring.metrics.structure import diversity, ms_ssim, psnr, ssim

LOOKED_AT = 2000
PAIRS_AT_ONCE = 32


def unit(samples: Batch) -> Tensor:
    """Images as their files would hold them, float32 in [0, 1]."""
    return to_uint8(samples["data"]).float() / 255


def _spectrum(real: Batch, fake: Batch, seed: int) -> Values:
    return {"spectrum": spectrum_distance(unit(real), unit(fake))}


def _diversity(real: Batch, fake: Batch, seed: int) -> Values:
    return {"self_similarity": Value(diversity(unit(fake), seed=seed), {"of_real": diversity(unit(real), seed=seed)})}


def _psnr(real: Batch, fake: Batch, seed: int) -> Values:
    return {"psnr": float(psnr(unit(fake), unit(real)).mean())}


def _ssim(real: Batch, fake: Batch, seed: int) -> Values:
    return {"ssim": float(ssim(unit(fake), unit(real)).mean())}


def _ms_ssim(real: Batch, fake: Batch, seed: int) -> Values:
    return {"ms_ssim": float(ms_ssim(unit(fake), unit(real)).mean())}


@cache
def _lpips_network() -> Lpips:
    return open_lpips("alex")


def _lpips(real: Batch, fake: Batch, seed: int) -> Values:
    network = _lpips_network()
    left, right = (
        side if side.shape[1] == 3 else side[:, :1].expand(-1, 3, -1, -1) for side in (unit(fake), unit(real))
    )
    pairs = zip(left.split(PAIRS_AT_ONCE), right.split(PAIRS_AT_ONCE), strict=True)
    return {"lpips": float(torch.cat([network(one, other) for one, other in pairs]).mean())}


MEASURES = {
    **catalogue.MEASURES,
    "spectrum": Measure(
        {"spectrum": LOWER}, _spectrum, needs=("data",), most=LOOKED_AT, note="distance of mean power spectra"
    ),
    "self_similarity": Measure(
        {"self_similarity": LOWER}, _diversity, needs=("data",), most=LOOKED_AT,
        note="MS-SSIM between samples (Odena et al. 2017)",
    ),
    "psnr": Measure({"psnr": HIGHER}, _psnr, needs=("data", "pairs"), resampled="pairs", most=LOOKED_AT, note="dB, paired"),
    "ssim": Measure({"ssim": HIGHER}, _ssim, needs=("data", "pairs"), resampled="pairs", most=LOOKED_AT, note="paired (Wang et al. 2004)"),
    "lpips": Measure(
        {"lpips": LOWER}, _lpips, needs=("data", "pairs"), resampled="pairs", most=LOOKED_AT,
        note="paired, AlexNet (Zhang et al. 2018); needs its weights",
    ),
    "ms_ssim": Measure(
        {"ms_ssim": HIGHER}, _ms_ssim, needs=("data", "pairs"), resampled="pairs", most=LOOKED_AT, note="paired (Wang et al. 2003)"
    ),
}  # fmt: skip
