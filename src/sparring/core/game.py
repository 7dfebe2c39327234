"""A game: the networks that play against each other, and what each turn minimises.

A game says *what*; the trainer decides when, where and how. Device, precision, gradient accumulation, clipping,
averaging, processes, checkpoints and recovery are the trainer's. Networks, losses, penalties, conditions and
sampling are the game's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparring.core.exportable import Exportable
from sparring.core.labels import Labels
from sparring.errors import UserError
from sparring.options import call, resolve

if TYPE_CHECKING:
    from sparring.core.private import RowLoss
    from sparring.recipe import Recipe


class Batch(dict[str, Tensor]):
    """Named tensors that share their first dimension, e.g. `data` (N, C, H, W) and `label` (N,).

    `memo` is scratch space for the game: what one turn leaves there (a generated batch, say) a later turn of the
    same step may use, as long as that turn plays on the same batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.memo: dict[str, Any] = {}

    @property
    def count(self) -> int:
        """The number of samples, N."""
        return len(next(iter(self.values())))

    def split(self, parts: int) -> Iterator[Batch]:
        """Cut into `parts` micro-batches (fewer where there are fewer samples), sizes as even as can be.

        They take turns in taking samples, so that the same part of every process's share is the same part of the batch.
        """
        parts = max(1, min(parts, self.count))
        for index in range(parts):
            part = self if parts == 1 else {name: value[index::parts].clone() for name, value in self.items()}
            yield Batch(part)


class Unseen(Batch):
    """A batch of which only the number of samples is known: for players that must not look at the data.

    Asking it for what a batch of data holds raises UserError.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.samples = count

    @property
    def count(self) -> int:
        """The number of samples that the data would have had."""
        return self.samples

    def __missing__(self, name: str) -> Tensor:
        raise UserError(
            f"private.epsilon: this game looks at the data ({name}) past its discriminator, so it cannot be trained privately"
        )

    def split(self, parts: int) -> Iterator[Batch]:
        """As many, in parts."""
        parts = max(1, min(parts, self.samples))
        for index in range(parts):
            yield Unseen(len(range(index, self.samples, parts)))


class Losses(dict[str, Tensor]):
    """Named scalar parts whose sum a turn minimises; `watch` holds figures that are logged and not minimised."""

    def __init__(self, parts: Mapping[str, Tensor], watch: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(parts)
        self.watch: dict[str, Tensor] = dict(watch or {})

    @property
    def total(self) -> Tensor:
        """The sum of the parts, a scalar."""
        return torch.stack([part.float() for part in self.values()]).sum()

    def plain(self) -> Losses:
        """The same figures without their graphs."""
        return Losses(*({name: value.detach() for name, value in each.items()} for each in (self, self.watch)))


def mean_losses(weighted: Sequence[tuple[Losses, float]]) -> Losses:
    """The weighted mean of the losses of several parts of a batch; the weights sum to 1. One part's are as they are."""
    (first, _), *others = weighted
    if not others:
        return first

    def mean(of: Callable[[Losses], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([weight * of(each)[name] for each, weight in weighted]).sum() for name in of(first)}

    return Losses(mean(lambda each: each), mean(lambda each: each.watch))


@dataclass(frozen=True)
class Turn:
    """One player's optimiser step.

    player: whose parameters move: a key of `Game.players()`.
    phase: what is minimised, for games whose player minimises several things; the player's name where empty.
    fresh: draw a new batch; otherwise play on the batch of the turn before.
    keep: what this turn generates is wanted by the next one: leave it, with its graph, in the batch's memo.
    """

    player: str
    phase: str = ""
    fresh: bool = True
    keep: bool = False

    @property
    def name(self) -> str:
        """The phase, or the player's name where the game has no phases."""
        return self.phase or self.player


@dataclass(frozen=True)
class DataSpec:
    """What a game must know of its data before it sees any.

    shape: one sample's shape, e.g. (C, H, W).
    classes: names of the labels, in the order of their numbers; empty where the data has no labels.
    count: number of training samples.
    extra: what only one domain needs (column types, vocabulary, …), plain JSON values.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    count: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class Game(nn.Module):
    """Networks that play against each other, and what each turn minimises.

    State that must survive a restart lives in parameters and registered buffers (a replay buffer is a buffer of a
    fixed size with a fill counter): checkpoints hold nothing else of a game.

    Randomness comes from `core.chance`, so that it does not depend on the number of processes; torch's own functions
    would draw from the global generator, which the trainer seeds, saves and restores too. A term that looks across its
    batch takes what it sees there from `core.processes.mean`. `generate` takes its own generator so that sampling never
    disturbs a training.
    """

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Game:
        """Build the game that `recipe` describes for data as `spec` says.

        The default passes the recipe's `model` and `loss` sections to the constructor as keyword arguments.
        Raises UserError where the recipe asks for what cannot be.
        """
        return call(cls, {**recipe.model, **recipe.loss}, where="model/loss", spec=spec)

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The recipe's sections `model` and `loss`, validated, with every default filled in. Raises UserError."""
        values = resolve(cls, {**recipe.model, **recipe.loss}, where="model/loss")
        loss = {key: values.pop(key) for key in recipe.loss}
        return {"model": values, "loss": loss}

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Called once, before the first step of a new training: learn or load what stays as it is from then on.

        It must live in parameters or buffers, for a resumed training has it from its checkpoint.
        data: the training data (`data.dataset.Dataset`). progress: called with (done, all) while something is learnt.
        Raises UserError for what the user can mend.
        """

    def players(self) -> dict[str, nn.Module]:
        """Who takes turns: name → the module whose parameters that player's optimiser moves."""
        raise NotImplementedError

    def averaged(self) -> dict[str, nn.Module]:
        """The modules that `generate` uses, which the trainer averages over time (EMA). Usually the generator."""
        return {name: player for name, player in self.players().items() if name == "generator"}

    def turns(self, step: int) -> Sequence[Turn]:
        """The turns of a step, in order. Steps count from 0."""
        return (Turn("discriminator"), Turn("generator", fresh=False))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """What `turn` minimises on `batch`. Called with gradients enabled, in train mode, under autocast."""
        raise NotImplementedError

    private_players: Sequence[str] = ()
    """Whose turns look at the data where a training is private; `row_loss` is theirs, and all others see `Unseen` batches."""

    @classmethod
    def without_data(cls, recipe: Recipe) -> list[str]:
        """`KEY=VALUE` overrides that switch off what would look at the data in the turns of other players than these."""
        return []

    def require_private(self) -> None:
        """Raise UserError where no private training is possible, saying why."""
        if not self.private_players:
            raise UserError(
                f"private.epsilon: the game {type(self).__name__} has no discriminator that judges samples one by one, "
                "so it cannot be trained privately"
            )

    def row_loss(self, turn: Turn, unseen: Unseen, step: int) -> RowLoss:
        """What a turn of one of `private_players` minimises, sample by sample. Called in train mode.

        unseen: how many samples to generate, to set those of the data against.
        """
        raise NotImplementedError

    def after_turn(self, turn: Turn, step: int) -> None:
        """Called after a turn's optimiser step, without gradients: clip weights, fill replay buffers, …"""

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Draw `count` samples: codes, rendered. Called in eval mode, without gradients.

        condition: numbers (count,) into `conditions`, or None to draw them as the training data has them.
        rng: a generator on the game's device; None means torch's global one.
        A game without codes overrides this method, and its samples cannot be steered.
        """
        return self.render(self.draw_codes(count, condition=condition, rng=rng))

    def rehearse(self, count: int, *, rng: torch.Generator | None = None) -> None:
        """Draw `count` samples as the training draws them, for layers that take statistics of what passes them.

        It is `generate`, unless a game trains on other frequencies than it generates. In eval mode, without gradients.
        """
        self.generate(count, rng=rng)

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Samples made from others, one from each of `given`: an image of another kind, the rest of a sequence. In eval mode.

        given: what they are made from, as a batch of the data has it; a game that makes its inputs from the data itself
        makes them where they are not there. condition, rng: as for `generate`, for what `given` leaves open.
        Returns `data` (N, …), beside it `source`, what it was made from, and what sheets show of it (`input` pictures, uint8,
        and `real`, what should have come of it, where that is known).
        """
        raise NotImplementedError

    @property
    def translates(self) -> bool:
        """Whether samples are made from others: then there is `translate`, and in place of `generate`."""
        return type(self).translate is not Game.translate

    def stretch(self, steps: int) -> None:
        """Draw samples of so many steps from now on, whatever the length of the training data's.

        Only games whose networks make sequences of any length can. Raises UserError where this one cannot.
        """
        raise UserError(f"{type(self).__name__} draws samples as long as those it was trained on: leave the length out")

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Everything random of `count` samples: `code` (count, L), or (count, layers, W) for style-based generators.

        Beside it `label`, where the game is conditional, and what else `render` needs; all have `count` rows.
        condition: as for `generate`, or weights (count, K) of the K conditions. truncation: 1 draws as in training,
        less draws what is more typical. Raises UserError for a truncation that cannot be.
        """
        raise NotImplementedError

    def render(self, codes: Batch) -> Batch:
        """The samples of codes, as `data`, and whatever else of `codes` goes with a sample. Draws nothing."""
        raise NotImplementedError

    @property
    def has_codes(self) -> bool:
        """Whether samples are rendered codes: not where a game of its own draws in another way."""
        return type(self).generate is Game.generate and type(self).draw_codes is not Game.draw_codes

    def exportable(self) -> Exportable | None:
        """The generator as a function of its inputs alone, on the modules of `averaged`; None where the game has none.

        It must give the samples that `generate` draws; `sparring export` looks whether it does.
        """
        return None

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """What of `spec` may leave with an exported generator: all that building it needs, and no samples of the data."""
        return spec

    @property
    def conditions(self) -> Sequence[str]:
        """Names of what `generate` may be asked for, in the order of their numbers; empty where it takes no condition."""
        return ()

    @property
    def labels(self) -> Labels | None:
        """How a condition is asked for: by the name of one of `conditions`; None where there are none."""
        return Labels(tuple(self.conditions)) if self.conditions else None

    @property
    def reads_labels(self) -> bool:
        """Whether the labels of the data have a part in the game; what a game does not read is said aloud."""
        return len(self.conditions) > 0

    @property
    def device(self) -> torch.device:
        """Where the game's parameters are."""
        return next(self.parameters()).device
