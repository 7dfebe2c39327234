"""What every domain offers to the verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import torch
from PIL.Image import Image
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.data.dataset import Dataset
from sparring.errors import UserError
from sparring.metrics.figure import Features
from sparring.metrics.meter import Measure
from sparring.options import choose
from sparring.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

Data: TypeAlias = "str | Path | DataFrame"
"""A source by its name, or a table that is in memory."""
Progress = Callable[[int, int], None]
Make = Callable[[Batch, int], Batch]
"""Inputs, a seed → what a game makes of them. See `Trained.translate`."""


@dataclass
class Translated:
    """What became of files. files: what was written. broken: (name, why) of those that could not be translated.

    facts: what else is worth saying, plain JSON values.
    """

    files: list[Path] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Likeness(Protocol):
    """How far samples are from each other, differentiably, and what is reported of a pair.

    name: of the distance, weights included.
    """

    name: str

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of each pair of `data` as games draw it, (N,); 0 for equal ones."""
        ...

    def figures(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Figures by name, (N,) each, of the samples as their files would hold them."""
        ...


class Sieve(Protocol):
    """What samples are to be beyond what a game can be asked for: what it is asked, and which of its samples stay.

    said: what stays, in words. rejects: whether there may be samples that do not.
    """

    said: str
    rejects: bool

    def condition(self, count: int, rng: torch.Generator) -> Tensor | None:
        """What the game is asked for (count, …), see `Game.generate`."""
        ...

    def keep(self, samples: Batch) -> Tensor:
        """Which samples stay, bool (N,). They come in the order in which they are drawn; `row` (N,) numbers them."""
        ...


class Domain(ABC):
    """A kind of data: how it is opened, which games are played on it, how its samples are shown, saved and measured."""

    name: str
    games: Mapping[str, type[Game]]
    measures: Mapping[str, Measure]
    """What can be measured, by name, in the order it is reported."""
    spaces: Sequence[str]
    """The feature spaces to measure in, the plainest first: it needs nothing and costs nothing."""
    formats: Sequence[str]
    """What `save` can write, the default first."""
    sample: str = "as the game draws them"
    """What the numbers of a game's sample are, for those who meet it outside the package."""
    unit: str = "img"
    """What a sample is called where speed is told."""
    drawn: int = 256
    """Samples whose randomness is drawn at a time, whatever the size of a forward pass: so a seed means the same samples."""
    cpu_batch: int = 64
    """Samples of a forward pass on a CPU, at most: activations of more leave its caches (images: 1.1 to 1.9 times the time)."""
    abreast: bool = False
    """Whether a CPU's threads each make a pass of their own, for passes that are too small to be shared out."""

    private_outside: str = "what a game is told of its data (names of classes, how many of each)"
    """What of the data's description a private training takes for known, and does not protect."""

    def without_data(self, recipe: Recipe) -> list[str]:
        """`KEY=VALUE` overrides that make data of what a private training supposes: each sample's own."""
        return []

    def describe_privately(self, data: Dataset, noise: float, draw: Callable[[int], Tensor]) -> list[float]:
        """Leave in `data.spec` nothing of single samples but what `private_outside` says; counts of them with noise.

        noise: deviation, in units of what one sample changes. draw: so many draws of N(0, 1). Returns the noise of each query.
        """
        return []

    def adopt(self, data: Dataset, spec: DataSpec) -> None:
        """Describe `data` as `spec`, a description of the same data, does."""
        data.spec = spec

    def knowing(self, spec: DataSpec) -> Self:
        """This domain, knowing what its data are: for kinds whose samples mean nothing without (names, types, units).

        It is what opens no data any more, and shows, saves and measures samples of such data.
        """
        return self

    def introduce(self, spec: DataSpec) -> list[str]:
        """What the data are taken for, in lines for those who begin a training: what was guessed, so that they can correct it."""
        return []

    @abstractmethod
    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's `data` section, validated, defaults filled in. Raises UserError."""

    def sieve(self, game: Game, label: Any) -> Sieve | None:
        """How samples that are `label` are drawn, where asking the game for it is not all there is to it. Raises UserError."""
        return None

    def source(self, data: Data) -> str:
        """What a recipe calls data: a name as it is, and what is in memory by where it is kept. Raises UserError."""
        return str(data) if isinstance(data, str | Path) else self.keep(data)

    def keep(self, data: Any) -> str:
        """Data that are in memory as a source of `open_data`: for kinds that have such. Raises UserError."""
        raise UserError(f"{self.name} data are named by a source, which is text: {type(data).__name__} is none")

    @abstractmethod
    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> Dataset:
        """The training data that the recipe's `data` section describes. Raises UserError."""

    @abstractmethod
    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """Write samples as one picture, for the eye; conditions: the names of their `label` numbers."""

    def show_pairs(self, left: Batch, right: Batch, captions: Sequence[str], path: Path) -> bool:
        """Write pairs of samples as one picture, a caption each, where this kind of data can be looked at."""
        return False

    def show_grid(
        self,
        samples: Batch,
        columns: int,
        captions: Sequence[str] | None,
        headings: Sequence[str] | None,
        path: Path,
    ) -> bool:
        """Write samples row by row as one picture, with captions of rows and headings of columns, where data has a look."""
        return False

    def illustrate(self, real: Batch, fake: Batch, out: Path) -> list[Path]:
        """Write pictures that compare samples with data into the folder `out`, where this kind of data has some; the files.

        real, fake: both sides as they were measured, `data` among it.
        """
        return []

    def frame(self, samples: Batch, columns: int) -> Image | None:
        """Samples row by row as one picture in memory, all of one size for samples of one size; None without a look."""
        return None

    def open_likeness(self) -> Likeness:
        """How far two samples are from each other, for finding a given one among a generator's. Raises UserError."""
        raise UserError(f"a generator of {self.name} samples cannot be searched for a given one: only images can be")

    def read_samples(
        self, files: Sequence[Path], options: Mapping[str, Any], spec: DataSpec
    ) -> tuple[Batch, list[str]]:
        """A sample a file, brought to the form of the training data, and in words what was done to bring them there.

        options, spec: of the data that the game was trained on. Raises UserError.
        """
        raise UserError(f"{self.name} samples cannot be read from files of their own")

    def translate_files(
        self, inputs: Sequence[str | Path], out: Path, game: Game, spec: DataSpec, make: Make,
        *, progress: Progress | None = None, **options: Any,
    ) -> Translated:  # fmt: skip
        """Read files of inputs, and write what the game makes of each under its own name in the folder `out`.

        spec: of the data that the game was trained on. options: `seed`, `count` outputs of each input, `backwards`, from
        the side of outputs to that of inputs, and what else this kind of data has. Raises UserError.
        """
        raise UserError(f"{self.name} samples are not made from files")

    @abstractmethod
    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """Write samples in one of `formats`; returns what was written. Raises UserError."""

    @abstractmethod
    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Features:
        """A space to measure samples in: one of `spaces`, `auto` for the best at hand, or a file of weights.

        data: the real samples, which a space may be learnt from. Raises UserError.
        """

    @abstractmethod
    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> Dataset:
        """Data to set a trained game's samples against, in their form.

        options, spec: of the data that the game was trained on. Raises UserError.
        """

    @abstractmethod
    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[Dataset, Dataset]:
        """Samples and data from files, in one common form: (samples, data). Raises UserError."""

    @abstractmethod
    def check(self, source: str, progress: Progress | None = None, **options: Any) -> Any:
        """A report of what is wrong with a data set, with `plain()` for JSON. Raises UserError.

        options: what this kind of data wants to know of it: for most, nothing.
        """

    def refuse(self, options: Mapping[str, Any]) -> None:
        """Raise UserError for options of a check or a preparation that this kind of data has not."""
        if options:
            raise UserError(f"{next(iter(options))} means nothing for {self.name} data: leave it out, or say --domain")

    @abstractmethod
    def prepare(self, source: str, out: Path, progress: Progress | None = None, **options: Any) -> Any:
        """Write a cleaned, converted copy of a data set, with `plain()` for JSON. Raises UserError."""

    def game_class(self, recipe: Recipe) -> type[Game]:
        """The recipe's game: one of the domain's, one that another package registers, or `module:Class`.

        The latter two run foreign code; callers make sure that the user wants it. Raises UserError.
        """
        registered = {entry.name: f"{entry.module}:{entry.attr}" for entry in entry_points(group="sparring.games")}
        name = recipe.game if recipe.game in self.games else registered.get(recipe.game, recipe.game)
        game: type[Game] = choose(self.games, name, what="game")
        return game

    def build_game(self, recipe: Recipe, spec: DataSpec) -> Game:
        """The game for data as `spec` says. Raises UserError where the recipe asks for what cannot be."""
        return self.game_class(recipe).from_recipe(recipe, spec)
