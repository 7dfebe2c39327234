"""What a checkpoint holds of a training, and how a training takes it over again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparring.errors import UserError
from sparring.training import checkpoint as files

if TYPE_CHECKING:
    from sparring.training.trainer import Trainer


@dataclass
class State:
    """Where a training stands; with the tensors of a checkpoint, all that going on exactly needs."""

    step: int = 0
    seen: int = 0
    seconds: float = 0.0
    sampler_position: int = 0
    micro_batches: int = 1
    lr_scale: float = 1.0
    recoveries: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    unimproved: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    account: list[list[float]] = field(default_factory=list)
    """Of a private training: see `core.accounting`."""


def pack(trainer: Trainer) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """File name → tensors, and plain JSON: all that going on exactly needs beside the random states. Every process calls it."""
    optimizers = {name: files.pack_optimizer(player.optimizer, name) for name, player in trainer.players.items()}
    content = {
        "state": asdict(trainer.state),
        "losses": trainer.read_losses(),  # a lazy penalty's last figure stands in the record until its next turn
        "recipe": trainer.recipe.plain(),
        "privacy": None if trainer.privacy is None else trainer.privacy.plain(),
        "world": trainer.engine.world,
        "settings": trainer.engine.settings.plain(),
        "device": trainer.engine.device.type,
        "optimizers": {name: plain for name, (_, plain) in optimizers.items()},
        "scalers": {name: player.scaler.state_dict() for name, player in trainer.players.items() if player.scaler},
    }
    tensors = {
        "weights": weights(trainer),
        "game": trainer.game.state_dict(),
        "average": trainer.average.tensors(),
        "optimizers": {key: value for each, _ in optimizers.values() for key, value in each.items()},
    }
    if trainer.group is not None and trainer.group.shares_noise:
        tensors["noise"] = trainer.group.state()
    return tensors, content


def unpack(trainer: Trainer, checkpoint: files.Checkpoint) -> None:
    """Take over everything that a checkpoint holds. Raises Damaged, or UserError where as many processes are needed as wrote it."""
    content = checkpoint.state()
    if content["world"] != trainer.engine.world and not trainer.recipe.train.shared_noise:
        raise UserError(
            f"the run was trained by {content['world']} processes with noise of their own (train.shared_noise=false), "
            f"so its exact continuation needs as many, not {trainer.engine.world}"
        )
    trainer.game.load_state_dict(checkpoint.tensors("game"))
    trainer.average.load(checkpoint.tensors("average"))
    tensors = checkpoint.tensors("optimizers")
    for name, player in trainer.players.items():
        files.unpack_optimizer(player.optimizer, name, tensors, content["optimizers"][name])
        if player.scaler:
            player.scaler.load_state_dict(content["scalers"][name])
    trainer.state = State(**content["state"])
    trainer.sampler.position = trainer.state.sampler_position
    trainer.losses = {name: torch.tensor(value) for name, value in content["losses"].items()}
    _unpack_chance(trainer, checkpoint, content["world"])


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """What `generate` needs: the averaged modules' tensors."""
    with trainer.sampling() as game:
        return {
            f"{name}.{key}": value.detach().clone()
            for name, module in game.averaged().items()
            for key, value in module.state_dict().items()
        }


def _unpack_chance(trainer: Trainer, checkpoint: files.Checkpoint, world: int) -> None:
    """The random states of a checkpoint that `world` processes wrote."""
    if world == trainer.engine.world:
        files.restore_random_state(checkpoint.tensors(f"random-{trainer.engine.rank:04d}"))
    if not trainer.recipe.train.shared_noise:
        return
    # What several processes draw in common is what a single one draws by itself.
    common = checkpoint.tensors("noise" if world > 1 else "random-0000")
    if trainer.group is not None:
        trainer.group.restore(common)
        if world != trainer.engine.world:
            trainer.seed_own()
    elif world > 1:
        files.restore_random_state({**checkpoint.tensors("random-0000"), **common})
