"""A run that streams its data from a server loses nothing: one of its two processes is killed, it resumes, and ends the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_kill import assert_same_end

from sharded import Server, write_digits
from sparring.training.checkpoint import list_checkpoints

KEYS = [
    "train.steps=60",
    "train.batch_size=16",
    "train.checkpoint_every=8",
    "train.sample_every=40",
    "model.generator.width=4",
    "model.discriminator.width=4",
    "data.size=32",
    "data.stream.lanes=4",
    "data.stream.open=1",
    # Of 38 decoded shards of 17 kB a part: they go and come again.
    f"data.stream.cache_gb={420_000 / 2**30}",
]


def start(run: Path, url: str, cache: Path) -> subprocess.Popen[str]:
    words = ["resume", str(run)]
    if not list_checkpoints(run / "checkpoints"):
        words = ["train", "cgan", "--data", url, "--out", str(run), "--devices", "2"]
        words += [word for key in KEYS for word in ("--set", key)]
    return subprocess.Popen(
        [sys.executable, "-m", "sparring", *words, "--device", "cpu"],
        env={**os.environ, "SPARRING_CACHE": str(cache)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def second_process(first: int) -> int:
    """The process of rank 1 that the first one started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == first and b"LOCAL_RANK=1" in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, IndexError):  # it ended in this moment
            continue
    raise AssertionError("there is no second process")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the second process by Linux's /proc")
def test_a_streaming_run_of_which_one_process_is_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    write_digits(tmp_path / "shards", count=600, per_shard=16)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with Server(tmp_path / "shards").running() as server:
        process = start(whole, server.url, tmp_path / "cache-1")
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors

        server.fail = lambda path, number: "drop" if number % 5 == 1 else None
        process = start(killed, server.url, tmp_path / "cache-2")
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline:
            if {each.step for each in list_checkpoints(killed / "checkpoints")} - {0}:
                break
            time.sleep(0.01)
        assert process.poll() is None, "the training was over before the kill"
        os.kill(second_process(process.pid), signal.SIGKILL)
        try:
            process.communicate(timeout=60)  # the other notices, and ends
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode != 0
        assert max(each.step for each in list_checkpoints(killed / "checkpoints")) < 60

        process = start(killed, server.url, tmp_path / "cache-2")
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert_same_end(whole, killed)
    assert len({path for path, _ in server.asked}) == 39  # the index, and every shard
    assert len(list((tmp_path / "cache-1" / "streamed").glob("[!.]*"))) < 38
