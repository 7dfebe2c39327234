"""Private training: which turns learn of the data, how much they may, and what it has cost so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sparring.core.accounting import Spent, epsilon, find_noise, most_times
from sparring.core.adversarial import mixes_samples
from sparring.core.game import Game, Losses, Turn, Unseen
from sparring.core.private import clipped_sum, gaussian, noisy_mean, partners
from sparring.core.regularize import weight_terms
from sparring.data.dataset import Dataset
from sparring.data.sampling import PoissonSampler, generator
from sparring.errors import UserError
from sparring.recipe import Private, Recipe
from sparring.training.engine import Engine
from sparring.training.players import PlayerState

COUNTS = 20.0  # noise on counts where no budget says how much; at δ = 1e-5 that is ε = 0.2
COUNTED = 1000  # steps after which `prv` counts anew
SHARE = 0.1  # of a budget that counts may spend


class Privacy:
    """Plays the turns that look at the data, so that they are differentially private, and keeps the account.

    length: planned steps, for which noise is chosen where only a budget is given. described: what was spent before.
    Raises UserError for what cannot be private.
    """

    def __init__(
        self, game: Game, recipe: Recipe, count: int, length: int | None, described: Sequence[Spent] = ()
    ) -> None:
        self.game, self.options, self.batch_size = game, recipe.private, recipe.train.batch_size
        require_private(game, recipe, count)
        self.sampler = PoissonSampler(count, self.batch_size, recipe.train.seed, secure=self.options.secure)
        self.described, self.turns = list(described), 0
        self.noise = self.options.noise or self._chosen_noise(length)
        self._most: int | None = None

    @property
    def account(self) -> list[Spent]:
        """What was spent so far."""
        return [*self.described, (self.noise, self.sampler.rate, self.turns)]

    @property
    def epsilon(self) -> float:
        """What was spent so far, as ε."""
        return epsilon(self.account, self.options.delta, self.options.accountant)

    def take(self, noise: float, account: Sequence[Sequence[float]]) -> None:
        """Go on with another's account."""
        if account:
            *before, (_, _, turns) = account
            self.described = [(float(each[0]), float(each[1]), int(each[2])) for each in before]
            self.noise, self.turns, self._most = noise, int(turns), None

    def affords(self, step: int) -> bool:
        """Whether the turns of a step are within the budget."""
        if self.options.epsilon is None:
            return True
        if self._most is None:
            options = self.options
            self._most = most_times(
                self.options.epsilon, options.delta, self.noise, self.sampler.rate,
                before=self.described, accountant=options.accountant,
            )  # fmt: skip
        return self.turns + self._looks(step) <= self._most

    def play(self, turn: Turn, player: PlayerState, data: Dataset, step: int) -> Losses:
        """Give a player's parameters the private gradient of a turn; what the turn minimises is not told, for that is the data's.

        Returns the terms on weights, which the data have no part in.
        """
        clip, secure = self.options.clip, self.options.secure
        row_loss = self.game.row_loss(turn, Unseen(self.batch_size), step)
        names = {id(each): name for name, each in row_loss.judge.named_parameters()}
        parameters = {names[id(each)]: each for each in player.parameters}
        indices = self.sampler.next()
        if len(indices):
            own = row_loss.own(data.batch(indices))
            total = clipped_sum(row_loss, own, partners(row_loss.fakes, len(indices)), parameters, clip)
        else:
            total = {name: torch.zeros_like(value) for name, value in parameters.items()}
        mean = noisy_mean(total, self.batch_size, self.noise * clip, secure=secure)
        for name, value in parameters.items():
            value.grad = mean[name]
        self.turns += 1
        terms = Losses(weight_terms(player.module, player.regularize))
        if terms:
            terms.total.backward(inputs=player.parameters)
        return terms

    def figures(self) -> dict[str, float]:
        """What is recorded: ε so far."""
        return {"private/epsilon": self.epsilon}

    def due(self, step: int, finished: bool) -> bool:
        """Whether it is time to count: `prv` takes a second."""
        return finished or self.options.accountant == "rdp" or step % COUNTED == 0

    def plain(self) -> dict[str, Any]:
        """The guarantee, as JSON-ready data."""
        return {
            "epsilon": self.epsilon,
            "delta": self.options.delta,
            "accountant": self.options.accountant,
            "noise": self.noise,
            "clip": self.options.clip,
            "rate": self.sampler.rate,
            "turns": self.turns,
            "counts": [noise for noise, _, _ in self.described],
            "secure": self.options.secure,
        }

    def sentence(self, step: int) -> str:
        """What was spent, and why it ends."""
        budget = self.options.epsilon
        over = "" if budget is None or self.affords(step) else f"; another step would go beyond ε = {budget:g}"
        return guarantee(self.plain()) + over

    def _looks(self, step: int) -> int:
        """Turns of a step that look at the data."""
        return sum(turn.player in self.game.private_players for turn in self.game.turns(step))

    def _chosen_noise(self, length: int | None) -> float:
        options = self.options
        assert options.epsilon is not None
        if length is None:
            raise UserError(
                "private.epsilon: how much noise it takes hangs on the number of steps: give train.steps, or private.noise"
            )
        times = sum(self._looks(step) for step in range(length))
        return find_noise(
            options.epsilon, options.delta, self.sampler.rate, max(1, times),
            before=self.described, accountant=options.accountant,
        )  # fmt: skip


def guarantee(facts: Mapping[str, Any]) -> str:
    """In a line, what a run's `privacy` says."""
    return (
        f"private: ε = {facts['epsilon']:.3g} at δ = {facts['delta']:g} after {facts['turns']:,} noisy turns "
        f"(noise {facts['noise']:.3g}, clip {facts['clip']:g}, samples drawn with probability {facts['rate']:.3g}, {facts['accountant']})"
    )


def require_single(engine: Engine) -> None:
    """Raise UserError where several processes play, or in a precision that scales losses."""
    if engine.world > 1:
        raise UserError("private.epsilon: a private training is one process: leave --devices and --nodes out")
    if engine.scaler() is not None:
        raise UserError("private.epsilon: 16-bit floats scale what is clipped: say --precision bf16 or 32")


def require_private(game: Game, recipe: Recipe, count: int) -> None:
    """Raise UserError where a game's players would learn of the data otherwise than by private turns."""
    game.require_private()
    if type(game).prepare is not Game.prepare:
        raise UserError(
            "private.epsilon: this game looks at the data before it is played, so it cannot be trained privately"
        )
    for name in game.private_players:
        if mixes_samples(game.players()[name]):
            raise UserError(
                f"private.epsilon: the {name} looks at samples together (batch norm, packing or minibatch layers): choose one without"
            )
    if recipe.private.delta * count >= 1:
        raise UserError(
            f"private.delta={recipe.private.delta:g} would let one of {count} samples be published: set it below {0.1 / count:.0e}"
        )


def noise_of_counts(options: Private) -> float:
    """The noise on counts that describe the data, in units of what a sample changes."""
    if options.counts is not None:
        return options.counts
    if options.epsilon is None:
        return COUNTS
    # Dwork & Roth 2014, theorem A.1. What it spends, the accountant says.
    return math.sqrt(2 * math.log(1.25 / options.delta)) / (SHARE * options.epsilon)


def drawing(recipe: Recipe) -> Callable[[int], torch.Tensor]:
    """Where the noise on counts comes from: `count` draws of N(0, 1)."""
    rng = generator(recipe.train.seed, *b"counts")
    return lambda count: gaussian((count,), torch.device("cpu"), secure=recipe.private.secure, rng=rng)
