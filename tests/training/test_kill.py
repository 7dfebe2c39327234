"""A killed run loses nothing: resumed, it ends with the very bits of an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sparring.training.checkpoint import Checkpoint, list_checkpoints

DRIVER = Path(__file__).with_name("kill_driver.py")


def final(run: Path) -> Checkpoint:
    return list_checkpoints(run / "checkpoints")[-1]


def assert_same_end(left: Path, right: Path) -> None:
    """Weights, optimisers, averages and random states, bit for bit, and the same record."""
    first, second = final(left), final(right)
    assert first.step == second.step
    names = sorted(path.stem for path in first.folder.glob("*.safetensors"))
    assert names == sorted(path.stem for path in second.folder.glob("*.safetensors"))
    for name in names:
        one, two = first.tensors(name), second.tensors(name)
        assert one.keys() == two.keys()
        for key in one:
            assert torch.equal(one[key], two[key]) or (one[key].isnan() & two[key].isnan()).all(), f"{name}: {key}"
    records = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (left, right)]
    clocks = ("seconds", "speed/samples_per_second")
    assert [{k: v for k, v in line.items() if k not in clocks} for line in records[0]] == [
        {k: v for k, v in line.items() if k not in clocks} for line in records[1]
    ]


def drive(run: Path, seed: int, kills: int) -> tuple[int, list[int]]:
    result = subprocess.run(
        [sys.executable, str(DRIVER), str(run), str(seed), str(kills)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    killed, begun = json.loads(result.stdout.splitlines()[-1])
    return killed, begun


@pytest.mark.slow
def test_a_run_killed_many_times_at_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    assert drive(tmp_path / "whole", seed=0, kills=0) == (0, [0])
    killed, begun = drive(tmp_path / "killed", seed=1, kills=20)
    assert killed == 20
    assert len(set(begun)) >= 10, f"the kills must fall into the training, but it went on from {begun}"
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


KEYS = [
    "train.steps=60",
    "train.batch_size=16",
    "train.checkpoint_every=5",
    "train.sample_every=50",
    "train.ema.half_life=500",
    "model.generator.width=4",
    "model.discriminator.width=4",
]


def start(run: Path) -> subprocess.Popen[str]:
    """Two processes, in a session of their own so that one kill reaches both."""
    resuming = bool(list_checkpoints(run / "checkpoints"))
    words = ["resume", str(run)] if resuming else ["train", "dcgan", "--out", str(run), "--devices", "2"]
    if not resuming:
        words += [word for key in KEYS for word in ("--set", key)]
    command = [sys.executable, "-m", "sparring", *words, "--device", "cpu"]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_of_two_processes_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors

    chance = random.Random(2)
    for kill in range(3):
        process = start(killed)
        deadline = time.monotonic() + 100
        before = {each.step for each in list_checkpoints(killed / "checkpoints")}
        # Let it get somewhere, each time further, and then anywhere.
        while process.poll() is None and time.monotonic() < deadline:
            if {each.step for each in list_checkpoints(killed / "checkpoints")} - before - {0}:
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, f"the training was over before kill {kill}"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(killed)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors

    assert {path.stem for path in final(killed).folder.glob("random-*")} == {"random-0000", "random-0001"}
    assert_same_end(whole, killed)
