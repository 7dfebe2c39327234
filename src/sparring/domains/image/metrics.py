"""What can be measured of images: distributions of features, and what needs the images themselves, in [0, 1]."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.domains.image import motion, paths
from sparring.domains.image.leaks import AS_IT_IS, FEWEST, KINDS, Detector
from sparring.domains.image.show import to_uint8
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


def _leaks(real: Batch, fake: Batch, seed: int) -> Values:
    if len(real["data"]) < FEWEST:
        return {}
    found = _detector(_Pictures(real["data"]), seed)(fake["data"])
    return {
        f"leak_{kind}": Value(leak.share, {"of_real": leak.of_real, "told": leak.told}) for kind, leak in found.items()
    }


class _Pictures:
    """Images, equal where their files would be: the detector is learnt once for all halves of the samples."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.digest = hashlib.blake2b(to_uint8(images).cpu().numpy().tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pictures) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@lru_cache(maxsize=1)
def _detector(real: _Pictures, seed: int) -> Detector:
    return Detector(real.images, seed=seed)


MEASURES = {
    **catalogue.MEASURES,
    "spectrum": Measure(
        {"spectrum": LOWER}, _spectrum, needs=("data",), most=LOOKED_AT, note="distance of mean power spectra"
    ),
    "self_similarity": Measure(
        {"self_similarity": LOWER}, _diversity, needs=("data",), most=LOOKED_AT,
        note="MS-SSIM between samples (Odena et al. 2017)",
    ),
    "leaks": Measure(
        {f"leak_{kind}": LOWER for kind in KINDS if kind != AS_IT_IS}, _leaks, needs=("data",), resampled="fake",
        within=catalogue.SHARE, most=LOOKED_AT, note="share of samples that show what the discriminator was shown: turned, with holes, …",
    ),
    "equivariance": Measure(
        dict.fromkeys(motion.FIGURES, HIGHER), motion.measure, needs=("generator",), probe=motion.probe, resampled="fake",
        within=catalogue.ANY, note="dB; how images follow what they are made from when it is moved (Karras et al. 2021)",
    ),
    "path_length": Measure(
        {"path_length": LOWER}, paths.measure, needs=("generator",), probe=paths.probe, resampled="fake",
        note="change of the image along paths of codes (Karras et al. 2019); looks at a run's generator",
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
