"""The hooks through which evaluation, recording, the doctor and the studio listen to a training and act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparring.core.game import Losses, Turn

if TYPE_CHECKING:
    from sparring.training.trainer import Trainer


class Listener:
    """Does nothing; override what you want to hear. Every process calls every listener, in order."""

    def at_start(self, trainer: Trainer) -> None:
        """Before the first step of this process, after a resumed state was loaded."""

    def before_turn(self, trainer: Trainer, turn: Turn) -> None:
        """Before a turn computes its losses."""

    def after_turn(self, trainer: Trainer, turn: Turn, losses: Losses) -> None:
        """After a turn's optimiser step; `losses` are those of the last micro-batch."""

    def after_step(self, trainer: Trainer) -> None:
        """After a step; `trainer.state.step` counts it already."""

    def at_checkpoint(self, trainer: Trainer) -> None:
        """After a checkpoint was written."""

    def at_recovery(self, trainer: Trainer, reason: str) -> None:
        """After the training went back to a good checkpoint."""

    def at_end(self, trainer: Trainer) -> None:
        """After the last checkpoint, also when the training was interrupted."""
