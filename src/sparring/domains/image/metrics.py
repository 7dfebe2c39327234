"""What can be measured of generated images, beside what is of any: traces of augmentation, and the generator itself."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from torch import Tensor

from sparring.core.game import Batch
from sparring.domains.image import motion, paths
from sparring.domains.image.leaks import AS_IT_IS, FEWEST, KINDS, Detector
from sparring.imaging import metrics as imaging
from sparring.imaging.metrics import LOOKED_AT
from sparring.imaging.show import to_uint8
from sparring.metrics import catalogue
from sparring.metrics.catalogue import HIGHER, LOWER
from sparring.metrics.meter import Measure, Value, Values


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
    **imaging.MEASURES,
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
}  # fmt: skip
