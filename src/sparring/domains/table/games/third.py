"""A third player, beside the two: it learns before the generator's turn, on what the discriminator has just seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from sparring.core.adversarial import AdversarialGame
from sparring.core.game import Turn


class ThirdPlayerGame(AdversarialGame):
    """third: its name, and that of the attribute that holds its network, which is None where a recipe does without."""

    third: ClassVar[str]

    @property
    def third_network(self) -> nn.Module | None:
        """The third player's network."""
        network: nn.Module | None = getattr(self, self.third)
        return network

    def third_plays(self, step: int) -> bool:
        """Whether it has a turn in a step."""
        return self.third_network is not None

    def players(self) -> dict[str, nn.Module]:
        found, network = super().players(), self.third_network
        return found if network is None else {**found, self.third: network}

    def turns(self, step: int) -> Sequence[Turn]:
        """The game's own, and before the generator's first one the third player's, on the same rows."""
        turns = list(super().turns(step))
        if self.third_plays(step):
            first = next(number for number, turn in enumerate(turns) if turn.player == "generator")
            turns.insert(first, Turn(self.third, fresh=False))
        return turns
