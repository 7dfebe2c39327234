"""Trains, is killed at random moments and resumes, until the training is over. Run by test_kill.py.

    python kill_driver.py RUN SEED KILLS

Each attempt is a fork of this process, which has imported everything but computed nothing, so that an attempt starts
in milliseconds and a kill can fall into any moment of it: before the first checkpoint, into a write, after the last.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import sparring.data.augment
import sparring.training.report  # noqa: F401  (with matplotlib, before the forks)
from sparring import api
from sparring.domains import open_domain
from sparring.training.checkpoint import Checkpoint, list_checkpoints

# Something of every kind of state: labels, batch norm, spectral norm, noise, augmentation, lazy penalties, averages.
RECIPE = "cgan"
KEYS = [
    "train.steps=160",
    "train.batch_size=16",
    "train.checkpoint_every=4",
    "train.keep=2",
    "train.sample_every=20",
    "train.sample_count=10",
    "train.ema.half_life=500",
    "train.schedule.name=cosine",
    "train.players.discriminator.optimizer.name=rmsprop",
    "train.players.discriminator.optimizer.lr=1e-4",
    "train.turns.discriminator=2",
    "model.generator.width=4",
    "model.discriminator.width=4",
    "model.spectral_norm=[discriminator]",
    "loss.label_noise=0.1",
    "loss.instance_noise=0.1",
    "loss.penalties.dragan.weight=1",
    "loss.penalties.dragan.every=3",
    "data.augment.flip_horizontal=true",
    "evaluate.metric=sliced_wasserstein",
    "evaluate.every=10",
    "evaluate.count=50",
]


def attempt(run: Path) -> None:
    """Start the training, or go on with it."""
    torch.set_num_threads(1)
    if list_checkpoints(run / "checkpoints"):
        api.resume(run, quiet=True, device="cpu")
    else:
        # Killed before its first checkpoint: nothing was trained, so the folder is started anew.
        for leftover in ("recipe.yaml", "data.json"):
            (run / leftover).unlink(missing_ok=True)
        api.train(RECIPE, out=run, set=KEYS, quiet=True, device="cpu")


def main(run: Path, seed: int, kills: int) -> tuple[int, list[int]]:
    """How many kills fell into a running attempt, and the step that each attempt went on from."""
    open_domain("image")
    chance = random.Random(seed)
    killed = 0
    begun = []
    while True:
        there = list_checkpoints(run / "checkpoints")
        begun.append(there[-1].step if there else 0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                attempt(run)
                code = 0
            finally:
                os._exit(code)
        if killed < kills:
            wait_for_progress(run, there, chance.random() < 0.8)
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif status != 0:
            raise SystemExit(f"an attempt failed after {killed} kills")
        else:
            return killed, begun


def wait_for_progress(run: Path, before: list[Checkpoint], wanted: bool) -> None:
    """Wait for a checkpoint that was not there before, so that kills reach into a training and not only its start."""
    deadline = time.monotonic() + 30
    while wanted and list_checkpoints(run / "checkpoints") == before and time.monotonic() < deadline:
        time.sleep(0.001)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
