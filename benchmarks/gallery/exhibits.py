"""What the gallery shows: which recipe on which data, for how many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = tuple[str, ...]


@dataclass(frozen=True)
class Collection:
    """A data set, how its samples are measured, and what the page says of it."""

    about: str
    source: Callable[[Path, Path], str]
    """(folder of data, folder to write to) → what `--data` takes."""
    keys: Options = ()
    count: int = 2000  # samples of each side


@dataclass(frozen=True)
class Exhibit:
    """One recipe; everything that is not said here is the recipe's own."""

    recipe: str
    steps: Mapping[str, int]
    """Collection → steps; one that is not named is left out."""
    keys: Options = ()
    own: Mapping[str, Options] = field(default_factory=dict)
    """Collection → further keys."""
    title: str = ""

    @property
    def name(self) -> str:
        """The recipe's name where nothing else is said."""
        return self.title or self.recipe


def faces(data: Path, out: Path) -> str:
    """The Olivetti faces as one array file, without their names: 400 grey images of 64×64."""
    import numpy as np
    from scipy.io import loadmat

    target = out / "faces.npy"
    if not target.exists():
        # A column a face, and each face column by column.
        columns: Any = loadmat(data / "olivetti" / "olivettifaces.mat")["faces"]
        np.save(target, columns.T.reshape(-1, 64, 64).transpose(0, 2, 1).astype(np.uint8))
    return str(target)


def cifar(data: Path, out: Path) -> str:
    """The training half of the CIFAR-10 subset, unpacked: a folder a class."""
    from zipfile import ZipFile

    target = out / "cifar10"
    if not (target / "train").exists():
        with ZipFile(data / "cifar10_subset.zip") as archive:
            archive.extractall(target)
    return str(target / "train")


COLLECTIONS = {
    "digits": Collection(
        "The 1,797 embedded digits, 8×8. `multires` learns slowly in steps, and a step at three scales costs much: its last two "
        "sheets are short trainings.",
        lambda data, out: "digits",
        count=1000,
    ),
    "mnist": Collection(
        "60,000 digits of 28×28. Budgets of a few minutes on one core, one to three epochs: strokes are right, not every digit is "
        "one. `multires` is far from done after 400 steps of 32, and its attention and recurrent fusions were left out. `default` "
        "was given 800 steps of its 1,500. `contragan` draws tidy kinds under exchanged names (0 for 5, 2 for 7): its loss draws "
        "samples of one label to each other and to what stands for it, and an exchange costs it little; `reacgan`, made against "
        "that, keeps the names. `began` ends in black here: a blank image is what its discriminator restores best, and "
        "the balance is content with it.",
        lambda data, out: str(data / "mnist"),
    ),
    "cifar10": Collection(
        "6,000 JPEGs of ten classes, 32×32: a tenth of CIFAR-10, and lossy, so nothing here compares with papers. A few minutes of "
        "one core are some thousandths of what the papers spent: colours and layouts are learnt, things are not.",
        cifar,
        ("data.augment.flip_horizontal=0.5",),
    ),
    "faces": Collection(
        "400 photographs of 40 people, grey, shrunk from 64×64 to 32×32 (Olivetti, credit ORL): very little data. "
        "With a tenth of them, five seeds, the distance to the rest is 76.3 ± 33.5 without augmentation and 40.5 ± 2.1 with DiffAugment: "
        "the table is in [little-data.md](little-data.md#what-it-brings).",
        faces,
        ("data.size=32", "data.augment.flip_horizontal=0.5"),
        count=400,
    ),
}

FUSION = "model.generator.fusion={0} model.discriminator.fusion={0}"
HALF = {"mnist": ("model.generator.width=32", "model.discriminator.width=32")}
SMALL_BATCH = {"mnist": ("train.batch_size=32",)}

EXHIBITS = (
    Exhibit("default", {"digits": 1500, "mnist": 800}),
    Exhibit("gan", {"digits": 12000, "mnist": 6000}),
    Exhibit("dcgan", {"digits": 4000, "mnist": 3000, "cifar10": 3000}, own={**HALF, "cifar10": HALF["mnist"]}),
    Exhibit("lsgan", {"digits": 4000, "mnist": 3000}, own=HALF),
    Exhibit("wgan", {"digits": 3000, "mnist": 1500}, own=HALF),
    Exhibit("wgan-gp", {"digits": 1500, "mnist": 600}, own=HALF),
    Exhibit("dragan", {"digits": 5000, "mnist": 2000}, own=HALF),
    Exhibit("sngan", {"digits": 1500, "mnist": 1200}, own=HALF),
    Exhibit("rgan", {"digits": 4000, "mnist": 3000}, own=HALF),
    Exhibit("cgan", {"digits": 4000, "mnist": 3000}, own=HALF),
    Exhibit(
        "cgan",
        {"digits": 4000, "mnist": 3000},
        ("model.discriminator.condition=projection",),
        HALF,
        "cgan-projection",
    ),
    Exhibit("acgan", {"digits": 3000, "mnist": 3000}, own=HALF),
    Exhibit("infogan", {"digits": 3000, "mnist": 3000}, own=HALF),
    Exhibit("aae", {"digits": 8000, "mnist": 6000}),
    Exhibit("multires", {"digits": 1000, "mnist": 400}, own=SMALL_BATCH),
    Exhibit("multires", {"digits": 500}, (*FUSION.format("attention").split(),), title="multires-attention"),
    Exhibit("multires", {"digits": 500}, (*FUSION.format("recurrent").split(),), title="multires-recurrent"),
    Exhibit("resnet-sngan", {"digits": 400, "mnist": 800}),
    Exhibit("sagan", {"mnist": 1000}),
    Exhibit("biggan", {"mnist": 900, "cifar10": 900}),
    Exhibit("contragan", {"digits": 500, "mnist": 1200}),
    Exhibit("reacgan", {"digits": 500, "mnist": 1200, "cifar10": 1200}),
    Exhibit("r3gan", {"mnist": 800}),
    Exhibit("fastgan", {"digits": 400, "mnist": 800, "cifar10": 1000}),
    Exhibit("projected", {"digits": 400, "mnist": 1200}),
    Exhibit("stylegan2", {"mnist": 600}),
    Exhibit("stylegan2-ada", {"faces": 800}),
    Exhibit("stylegan3-t", {"faces": 600}),
    Exhibit("stylegan3-r", {"digits": 250, "faces": 500}),
    Exhibit("progan", {"mnist": 1500, "faces": 1500}),
    Exhibit("msg-gan", {"digits": 450, "mnist": 1000}),
    Exhibit("lapgan", {"digits": 450, "mnist": 1500}),
    Exhibit("began", {"digits": 1500, "mnist": 3000, "faces": 3000}),
    Exhibit("ebgan", {"digits": 2000, "mnist": 2000}),
)
