"""Plays trainings on several processes each, one after the other. Run by test_many_processes.py.

    python processes_driver.py JOBS

JOBS is a JSON file: a list of {run, world, and either recipe and set, or steps (to resume)}. The processes of a job are
forks of this one, which has imported everything but computed nothing, with the environment that their `launcher`
(torchrun where it is not said, or srun) would give them.
What a process raises for its user is written beside the run, to RUN.error-RANK; the samples it drew to RUN.drawn-RANK.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import kornia.augmentation  # noqa: F401  (before the forks)
import torch

from sparring import api
from sparring.data.sampling import Sampler
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.training import follow

# Rounding and speed only; and no time is taken to choose them.
MACHINE = ["machine.precision=32", "machine.threads=1", "machine.channels_last=false", "machine.compile=false"]


def play(job: dict[str, Any]) -> None:
    """One process of a job."""
    torch.set_num_threads(1)
    follow.write_report = lambda run, summary: None  # type: ignore[assignment]  # takes longer than all the rest
    if "recipe" in job:
        api.train(job["recipe"], out=job["run"], set=[*job["set"], *MACHINE], quiet=True, device="cpu")
    else:
        api.resume(job["run"], quiet=True, device="cpu", devices=job["world"])


def remember_samples(path: Path) -> None:
    """Write down what this process's sampler deals to it."""
    deal = Sampler.next

    def noted(sampler: Sampler) -> torch.Tensor:
        indices = deal(sampler)
        with path.open("a") as stream:
            stream.write(json.dumps(indices.tolist()) + "\n")
        return indices

    Sampler.next = noted  # type: ignore[method-assign]


def torchrun(rank: str, world: str) -> dict[str, str]:
    """The environment of a process on a single node."""
    return {
        "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0",
        "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0",
        "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_WORLD_SIZE": "1",
    }  # fmt: skip


def srun(rank: str, world: str) -> dict[str, str]:
    """The environment of a task on a single node."""
    return {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "gan", "SLURM_NTASKS": world, "SLURM_NTASKS_PER_NODE": world,
        "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost", "SLURM_PROCID": rank, "SLURM_LOCALID": rank,
        "SLURM_NODEID": "0",
    }  # fmt: skip


LAUNCHERS = {"torchrun": torchrun, "srun": srun}


def process(job: dict[str, Any], rank: int, port: int) -> int:
    """Be one process of a job; its exit code."""
    if job["world"] > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= LAUNCHERS[job.get("launcher", "torchrun")](str(rank), str(job["world"]))
    if job.get("remember"):
        remember_samples(Path(f"{job['run']}.drawn-{rank}"))
    try:
        play(job)
    except UserError as error:
        Path(f"{job['run']}.error-{rank}").write_text(str(error))
    return 0


def run(job: dict[str, Any]) -> None:
    """Fork the processes of a job, and wait for them."""
    Path(job["run"]).parent.mkdir(parents=True, exist_ok=True)
    if "copy" in job:  # a run as it was when it had its first checkpoint
        shutil.copytree(job["copy"], job["run"])
        for later in sorted(Path(job["run"]).glob("checkpoints/step-*"))[2:]:
            shutil.rmtree(later)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(job["world"]):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = process(job, rank, port)
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    failed = [child for child in children if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
    if failed:
        raise SystemExit(f"{job['run']} failed in {len(failed)} of {job['world']} processes")


if __name__ == "__main__":
    open_domain("image")
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(job)
