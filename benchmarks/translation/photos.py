"""Road photographs from label maps (CamVid), with pix2pix, pix2pixHD and SPADE, on frames that were not trained on.

python benchmarks/translation/photos.py --data FOLDER [--only pix2pix,spade,pix2pixhd]

What is measured, of all 101 frames of the validation set at 64×48 pixels, one output each:

- fid: Fréchet distance of outputs and photographs in features that were learnt from the validation photographs (the
  space `classifier`). Beside `photographs` stands that of their even and odd frames, which are a second apart: a floor that
  cannot be reached
- sharpness: mean length of the brightness gradient, as a share of the photographs'. 1 is as sharp as they are
- psnr, ssim: of each output with its photograph
- pixels, miou: how much of the label map a small segmenter finds again in the outputs, which was trained on the photographs
  of the training set, beside what it finds in the held-out photographs themselves. Outputs may lie above that: they look
  like the photographs that both have learnt from

beside those of two baselines: the mean photograph of the training set, and the same generator taught by mean absolute
differences alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import arguments, keep, train
from segmenter import Segmenter, learn, scores
from torch import Tensor

from sparring.core.game import Batch
from sparring.domains.translation.data import TranslationData, TranslationOptions, open_translation
from sparring.domains.translation.show import comparison, visible
from sparring.imaging.features import open_features
from sparring.metrics.figure import Features
from sparring.metrics.frechet import frechet_distance
from sparring.metrics.structure import psnr, ssim
from sparring.trained import load

SIZE, LOAD = (48, 64), (54, 72)
VOID = 11
SETS = (
    "data.void=11", "data.sides=[label,photo]", f"data.size={list(SIZE)}", f"data.load={list(LOAD)}",
    "machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1",
    "train.checkpoint_every=500", "train.sample_every=500",
)  # fmt: skip
STEPS = {"pix2pix": 1200, "l1": 1200, "spade": 600, "pix2pixhd": 3000}
SHOWN = (3, 20, 41, 60, 77, 95)  # frames of the validation set in the picture


def main() -> None:
    """Train, measure, keep."""
    options = arguments(__doc__, only="pix2pix,pix2pixhd,spade")
    camvid = options.data / "camvid"
    learning, held = (open_side(camvid / split) for split in ("train", "val"))
    photographs, maps = whole(held)
    features = open_features("classifier", held)
    segmenter = learn(*whole(learning), seed=options.seed, kept=options.out / "segmenter.pt")

    def figures(outputs: Tensor) -> dict[str, float]:
        return measure(outputs, photographs, maps, features, segmenter)

    mean = whole(learning)[0].mean(0, keepdim=True).expand_as(photographs)
    baselines = {"photographs": ceiling(photographs, maps, features, segmenter), "mean photograph": figures(mean)}
    # Trained before what is set beside it, so that every row holds it.
    plain = train(
        options.out / "l1", "pix2pix", camvid / "train", steps=STEPS["l1"], seed=options.seed,
        sets=(*SETS, "loss.adversarial=0"),
    )  # fmt: skip
    blurred = translated(plain.run, held, options.seed)
    baselines["L1 alone"] = figures(blurred)
    for name in options.only.split(","):
        trained = train(
            options.out / name, name, camvid / "train", steps=STEPS[name], seed=options.seed, sets=SETS
        )  # fmt: skip
        outputs = translated(trained.run, held, options.seed)
        keep(
            f"photos-{name}",
            trained,
            about="CamVid, label maps to photographs, 367 pairs; 101 of the validation set, 64×48",
            figures=figures(outputs),
            baselines=baselines,
            picture=comparison(
                {
                    "input": visible(
                        held.batch(torch.tensor(SHOWN), augment=False)["source"], held.spec.extra["input"]
                    ),
                    "L1 alone": blurred[list(SHOWN)],
                    name: outputs[list(SHOWN)],
                    "photograph": photographs[list(SHOWN)],
                }
            ),
        )


def open_side(folder: Path) -> TranslationData:
    """A split at the size that is trained on, without jitter."""
    given: dict[str, Any] = {"source": str(folder), "sides": ("label", "photo"), "size": SIZE, "fit": "stretch"}
    return open_translation(TranslationOptions(**given, void=VOID, classes=[str(each) for each in range(VOID)]))


def whole(data: TranslationData) -> tuple[Tensor, Tensor]:
    """All photographs (N, C, H, W) in [-1, 1], and the class of each place (N, H, W), −1 where there is none."""
    batch = data.batch(torch.arange(len(data)), augment=False)
    source = batch["source"]
    return batch["data"], torch.where(source.sum(1) > 0, source.argmax(1), -1)


def translated(run: Path, data: TranslationData, seed: int) -> Tensor:
    """Outputs of a run for all label maps."""
    trained = load(run, checkpoint="last")
    batches = [
        trained.translate(data.batch(part, augment=False), seed=seed)["data"]
        for part in torch.arange(len(data)).split(16)
    ]
    return torch.cat(batches).clamp(-1, 1)


def measure(outputs: Tensor, real: Tensor, maps: Tensor, features: Features, segmenter: Segmenter) -> dict[str, float]:
    """The figures of outputs (N, C, H, W) in [-1, 1]."""
    one, other = (outputs + 1) / 2, (real + 1) / 2
    return {
        "fid": distance(outputs, real, features),
        "sharpness": float(gradient(outputs) / gradient(real)),
        "psnr": float(psnr(one, other).mean()),
        "ssim": float(ssim(one, other).mean()),
        **scores(segmenter, outputs, maps),
    }


def ceiling(real: Tensor, maps: Tensor, features: Features, segmenter: Segmenter) -> dict[str, float]:
    """What held-out photographs themselves have: the distance is that of their even and odd frames."""
    return {"fid": distance(real[::2], real[1::2], features), "sharpness": 1.0, **scores(segmenter, real, maps)}


def distance(outputs: Tensor, real: Tensor, features: Features) -> float:
    """Fréchet distance in a space."""
    return frechet_distance(*(features(Batch(data=each))["features"] for each in (real, outputs)))


def gradient(images: Tensor) -> Tensor:
    """Mean length of the gradient of brightness, between neighbours."""
    grey = images.mean(1, keepdim=True)
    down, across = grey.diff(dim=2)[..., :-1], grey.diff(dim=3)[..., :-1, :]
    return (down.square() + across.square()).sqrt().mean()


if __name__ == "__main__":
    main()
