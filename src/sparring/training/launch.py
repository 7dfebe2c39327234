"""How many processes there are: as many as the launcher that started this one says, or as the user asks for."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from sparring.errors import UserError


def agreed(devices: int, nodes: int) -> tuple[int, int]:
    """Devices on each node, and nodes. What a launcher started counts; (1, 1) leaves it to the launcher.

    Raises UserError where both say something else.
    """
    started = launched()
    if started is None:
        return devices, nodes
    if (devices, nodes) not in ((1, 1), started):
        raise UserError(
            f"the launcher started {started[0]} processes on each of {started[1]} nodes, and not {devices} on {nodes}: "
            "leave --devices and --nodes out, or start it with these numbers"
        )
    return started


def launched() -> tuple[int, int] | None:
    """Processes on each node and nodes of the launcher that started this process; None where the user did.

    Known are torchrun, and with it whatever starts torchrun, and SLURM's srun. Raises UserError for uneven nodes.
    """
    if TorchElasticEnvironment.detect():
        world, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", world // here))
    elif SLURMEnvironment.detect():
        world, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
        here = world // nodes
    else:
        return None
    if here * nodes != world:
        raise UserError(f"{world} processes on {nodes} nodes: start as many on each")
    return here, nodes
