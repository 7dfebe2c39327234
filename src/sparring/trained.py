"""A trained generator, ready to draw from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparring.abreast import abreast
from sparring.core.codes import pull_to_mean
from sparring.core.game import Batch, DataSpec, Game
from sparring.domains import Domain, open_domain
from sparring.domains.domain import Sieve
from sparring.errors import UserError
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.checkpoint import Checkpoint, list_checkpoints, readable
from sparring.training.engine import choose_device
from sparring.training.settings import HALVES

Label = str | int | Mapping[str, float] | None
"""See `core.labels.Labels.ask`: a class by name or number, or what each name is to be, as a mapping or a text."""
Ask = Callable[[int, torch.Generator], Tensor | None]
"""How many samples, the randomness → what a game is asked for of each, (count, …)."""

PATIENCE = 200  # samples that are drawn for each that is asked for, at most


@dataclass
class Trained:
    """A trained generator, ready to draw from."""

    game: Game
    domain: Domain
    recipe: Recipe
    spec: DataSpec
    step: int
    """Of the checkpoint that the weights are from."""

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        label: Label = None,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
        length: int | None = None,
        batch_size: int | None = None,
        precision: str = "32",
        say: Callable[[str], None] | None = None,
    ) -> Iterator[Batch]:
        """Draw `count` samples in batches; the same seed draws the same samples, whatever the batch size.

        label: a class name or number for all of them, or the shares of a mixture, {name: share}. truncation: 1 draws as in
        training, less gives up variety for typical samples; truncation_layers: in so many of the first layers alone, for
        style-based generators. length: steps of each, for games that draw sequences of any length; it stays so until another
        is asked for. batch_size: samples of a batch and, at most, of a forward pass; from 1 to `domain.drawn`, the
        default, across whose multiples batches do not run. precision: of forward passes, 32, bf16 or 16. say: is told how many
        samples were rejected, of data that know more wishes than a game can be asked for (see `Domain.sieve`).
        Raises UserError for an unknown label, for one where the game has none, for a truncation that the generator does
        not have, or for a batch size or precision that cannot be.
        """
        passes = self._passes(batch_size, precision)
        if self.game.translates:
            raise UserError(
                f"recipe {self.recipe.name!r} makes its samples from others: `sparring translate` does that for files"
            )
        sieve = self.domain.sieve(self.game, label)
        if sieve is None:
            ask, total = _always(self.condition(label)), count
        else:
            ask, total = sieve.condition, PATIENCE * (count + self.domain.drawn // 8) if sieve.rejects else count
        if length is not None:
            self.game.stretch(length)
        if truncation == 1 and not self.game.has_codes:
            samples = self._draw(total, seed, ask, passes)
        else:
            samples = self._render(self._draw_codes(total, seed, ask, truncation, truncation_layers), passes)
        if sieve is not None and sieve.rejects:
            samples = _sifted(samples, sieve, count, passes.batch, say)
        return self._in_units(samples)

    def translate(self, given: Batch, *, seed: int = 0, label: Label = None, precision: str = "32") -> Batch:
        """What the game makes of `given`, a batch of data or of inputs alone; the same seed makes the same of the same.

        label: what it is to become, where the game has several kinds. precision: of forward passes, 32, bf16 or 16.
        Raises UserError for a game that does not translate.
        """
        self.require_translation()
        passes = self._passes(None, precision)
        condition = self.condition(label)
        asked = None if condition is None else condition.expand(given.count, *condition.shape)
        rng = torch.Generator(self.game.device).manual_seed(seed)
        device = self.game.device
        moved = Batch({name: value.to(device) for name, value in given.items()})
        # A network's own noise comes from the global generator: seeded here, and left as it was.
        with torch.random.fork_rng([device] if device.type == "cuda" else []), passes.precision(device):
            torch.manual_seed(seed)
            return self.game.translate(moved, condition=asked, rng=rng)

    def require_translation(self) -> None:
        """Raise UserError for a game that makes its samples from nothing."""
        if not self.game.translates:
            raise UserError(f"recipe {self.recipe.name!r} makes samples from noise: `sparring generate` draws them")

    def codes(
        self,
        count: int,
        *,
        seed: int = 0,
        label: Label = None,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
    ) -> Batch:
        """What `generate` makes its samples from: `code` (count, L), for style-based generators (count, layers, W).

        Beside it `label`, where the game is conditional. Arguments and errors as `generate`; UserError for a game that
        draws without codes.
        """
        pieces = [*self._draw_codes(count, seed, _always(self.condition(label)), truncation, truncation_layers)]
        return Batch({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]})

    def render(self, codes: Batch, *, batch_size: int | None = None, precision: str = "32") -> Batch:
        """The samples of `codes`, as `data`, in passes of at most `batch_size`; what is drawn at random stays the same.

        Codes may be edited and mixed on the way from `codes`. Raises UserError as `generate`.
        """
        self.require_codes()
        passes = self._passes(batch_size, precision)
        pieces = [*self._render(iter([codes]), replace(passes, batch=codes.count))]
        return Batch({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]})

    def require_codes(self) -> None:
        """Raise UserError for a game that draws its samples without codes."""
        if not self.game.has_codes:
            raise UserError(
                f"recipe {self.recipe.name!r}: its game {type(self.game).__name__} draws its samples without codes, so they "
                "cannot be steered; a game of your own has `draw_codes` and `render` in place of `generate`"
            )

    def _passes(self, batch_size: int | None, precision: str) -> Passes:
        """How forward passes are made. Raises UserError."""
        drawn = self.domain.drawn
        batch = drawn if batch_size is None else batch_size
        if not 1 <= batch <= drawn:
            raise UserError(f"a batch size of {batch} cannot be: samples are drawn by {drawn}, so say 1 to {drawn}")
        if precision != "32" and precision not in HALVES:
            raise UserError(f"unknown precision {precision!r} of drawing; there are 32, {', '.join(HALVES)}")
        size = min(batch, self.domain.cpu_batch) if self.game.device.type == "cpu" else batch
        return Passes(batch, size, HALVES.get(precision))

    def _draw(self, count: int, seed: int, ask: Ask, passes: Passes) -> Iterator[Batch]:
        """Samples of a game that has no codes."""
        rng = torch.Generator(self.game.device).manual_seed(seed)
        for drawn in _portions(count, self.domain.drawn):
            labels = ask(drawn, rng)
            with passes.precision(self.game.device), passing(self.game.averaged().values(), drawn, passes.size):
                batch = self.game.generate(drawn, condition=labels, rng=rng)
            yield from _parts(batch, passes.batch)

    def _draw_codes(
        self, count: int, seed: int, ask: Ask, truncation: float, truncation_layers: int | None
    ) -> Iterator[Batch]:
        """The codes of `count` samples, as many at a time as are drawn together."""
        self.require_codes()
        mean = getattr(getattr(self.game, "generator", None), "mean_code", None)
        if truncation_layers is not None and mean is None:
            raise UserError(
                f"recipe {self.recipe.name!r}: its generator has no styles, so truncation is of the whole latent: "
                "leave --truncation-layers out"
            )
        return self._drawn_codes(count, seed, ask, truncation, truncation_layers)

    def _drawn_codes(self, count: int, seed: int, ask: Ask, truncation: float, layers: int | None) -> Iterator[Batch]:
        rng = torch.Generator(self.game.device).manual_seed(seed)
        for drawn in _portions(count, self.domain.drawn):
            labels = ask(drawn, rng)
            with torch.no_grad():
                if layers is None:
                    yield self.game.draw_codes(drawn, condition=labels, rng=rng, truncation=truncation)
                    continue
                codes = self.game.draw_codes(drawn, condition=labels, rng=rng)
                mean: Tensor = self.game.generator.mean_code  # type: ignore[union-attr,assignment]
                yield Batch({**codes, "code": pull_to_mean(codes["code"], mean, truncation, layers)})

    def _render(self, pieces: Iterator[Batch], passes: Passes) -> Iterator[Batch]:
        """The samples of codes, in batches."""

        def passed(part: Batch) -> Batch:
            with passes.precision(self.game.device):
                return self.game.render(part)

        counts: deque[int] = deque()
        parts = _noted(pieces, passes.size, counts)
        if self.domain.abreast and self.game.device.type == "cpu":
            made = abreast(passed, parts, ahead=self.domain.drawn // passes.size)
        else:
            made = map(passed, parts)
        for part in made:
            lot = [part, *islice(made, counts[0] - 1)]
            counts.popleft()
            whole = {name: torch.cat([each[name] for each in lot]) for name in part}
            yield from _parts(Batch(whole), passes.batch)

    def _in_units(self, samples: Iterator[Batch]) -> Iterator[Batch]:
        """Samples whose labels are values in the data's units."""
        labels = self.game.labels
        for batch in samples:
            if labels is not None and "label" in batch:
                batch["label"] = labels.units(batch["label"])
            yield batch

    def condition(self, label: Label) -> Tensor | None:
        """What a game takes as one sample's condition: see `Labels.ask`. Raises UserError."""
        if label is None:
            return None
        labels = self.game.labels
        if labels is None:
            raise UserError(
                f"recipe {self.recipe.name!r} draws samples without labels, so --label means nothing here; train `cgan`, say"
            )
        return labels.ask(label)


@dataclass(frozen=True)
class Passes:
    """Forward passes: batches of so many samples, of which so many are passed at most, in half precision where one is named."""

    batch: int
    size: int
    half: torch.dtype | None

    @contextmanager
    def precision(self, device: torch.device) -> Iterator[None]:
        """Inside, no gradients, and autocast where it is wanted."""
        with torch.no_grad(), nullcontext() if self.half is None else torch.autocast(device.type, self.half):
            yield


def _always(condition: Tensor | None) -> Ask:
    """Every sample is asked for the same."""
    return lambda count, rng: None if condition is None else condition.expand(count, *condition.shape)


def _sifted(
    samples: Iterator[Batch], sieve: Sieve, count: int, size: int, say: Callable[[str], None] | None
) -> Iterator[Batch]:
    """The first `count` samples that stay, in batches of `size`. Raises UserError where there are not so many."""
    drawn = kept = 0
    waiting: list[Batch] = []
    for batch in samples:
        batch["row"] = torch.arange(drawn, drawn + batch.count)
        stays = sieve.keep(batch).nonzero().flatten()[: count - kept]
        drawn += batch.count
        kept += len(stays)
        waiting.append(Batch({name: value[stays.to(value.device)] for name, value in batch.items()}))
        if sum(each.count for each in waiting) >= size or kept == count:
            whole = Batch({name: torch.cat([each[name] for each in waiting]) for name in batch})
            parts = [*_parts(whole, size)]
            waiting = [parts.pop()] if kept < count and parts[-1].count < size else []
            yield from parts
        if kept == count:
            break
    share = f"{kept:,} of {drawn:,} samples drawn ({kept / max(1, drawn):.2%}) were {sieve.said}"
    if kept < count:
        raise UserError(f"only {share}, and {count:,} are asked for: ask for fewer, or for something less rare")
    if say is not None and kept < drawn:
        say(f"{share}; the others were rejected")


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in pieces of at most `size` samples."""
    for first in range(0, batch.count, size):
        yield Batch({name: value[first : first + size] for name, value in batch.items()})


def _noted(pieces: Iterable[Batch], size: int, counts: deque[int]) -> Iterator[Batch]:
    """The parts of all pieces, one after the other; how many a piece has goes into `counts`."""
    for piece in pieces:
        parts = [*_parts(piece, size)]
        counts.append(len(parts))
        yield from parts


def _portions(count: int, drawn: int) -> Iterator[int]:
    """How many samples are drawn at a time, `drawn` at most."""
    for start in range(0, count, drawn):
        yield min(drawn, count - start)


@contextmanager
def passing(modules: Iterable[nn.Module], count: int, size: int) -> Iterator[None]:
    """Inside, modules that are given `count` samples look at `size` of them at a time, and join what they make of them.

    Only where all tensors that they are given, and what they return, have `count` samples.
    """
    with ExitStack() as after:
        for module in modules if size < count else ():
            _pass_parts(module, count, size)
            after.callback(delattr, module, "forward")
        yield


def _pass_parts(module: nn.Module, count: int, size: int) -> None:
    whole = module.forward

    def forward(*args: Any, **options: Any) -> Any:
        given = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
        if not given or not all(value.ndim and len(value) == count for value in given):
            return whole(*args, **options)

        def part(value: Any, start: int) -> Any:
            return value[start : start + size] if isinstance(value, Tensor) else value

        parts: list[Tensor] = []
        for start in range(0, count, size):
            made = whole(
                *(part(each, start) for each in args), **{name: part(each, start) for name, each in options.items()}
            )
            if not isinstance(made, Tensor) or made.shape[:1] != (min(size, count - start),):
                return whole(*args, **options)
            parts.append(made)
        return torch.cat(parts)

    module.forward = forward


def load(run: str | Path, *, checkpoint: str | int = "best", device: str = "auto", trust: bool = False) -> Trained:
    """The trained generator of a run.

    checkpoint: `best` (the last where none was measured), `last`, or a step.
    trust: allow the recipe to import code outside the package (`module:Class`). Raises UserError.
    """
    opened = Run.open(run)
    recipe = trusted(opened.read_recipe(), trust)
    spec, _ = opened.read_spec()
    domain = open_domain(recipe.domain).knowing(spec)
    game = domain.build_game(recipe, spec)
    game.to(torch.device(choose_device(device)))
    chosen = find_checkpoint(opened, checkpoint)
    with readable():
        weights = chosen.tensors("weights")
    for name, module in game.averaged().items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if {key: value.shape for key, value in own.items()} != {
            key: value.shape for key, value in module.state_dict().items()
        }:
            raise UserError(
                f"{run}: the weights do not fit the {name} that its recipe.yaml describes: has the file been changed?"
            )
        module.load_state_dict(own)
    return Trained(game.eval(), domain, recipe, spec, chosen.step)


def guarantee_of(run: str | Path, checkpoint: str | int = "best") -> dict[str, Any] | None:
    """What is guaranteed of a privately trained checkpoint's samples (`training.privacy.Privacy.plain`); None of others."""
    with readable():
        facts: dict[str, Any] | None = find_checkpoint(Run.open(run), checkpoint).state().get("privacy")
    return facts


def find_checkpoint(run: Run, which: str | int) -> Checkpoint:
    """A run's checkpoint: `best`, `last`, or a step. Raises UserError."""
    there = list_checkpoints(run.checkpoints)
    if not there:
        raise UserError(f"{run.folder}: has no checkpoint yet")
    if which == "last":
        return there[-1]
    if which == "best":
        with readable():
            best = there[-1].state()["state"]["best"].get("step", there[-1].step)
        return next((each for each in there if each.step == best), there[-1])
    found = [each for each in there if str(each.step) == str(which)]
    if not found:
        raise UserError(
            f"{run.folder}: has no checkpoint {which!r}; there are best, last, {', '.join(str(each.step) for each in there)}"
        )
    return found[0]


def trusted(recipe: Recipe, trust: bool) -> Recipe:
    """Refuse to run code that the user has not named on purpose: a run folder may come from a stranger."""
    if recipe.needs_foreign_code and not trust:
        raise UserError(
            f"this run uses code from outside the package ({', '.join(recipe.needs_foreign_code)}): pass --trust if it is yours"
        )
    return recipe
