"""Checkpoints: whole or not there, exactly what was saved, and never anything that can run."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.training import checkpoint as files
from sparring.training.checkpoint import (
    Checkpoint,
    Damaged,
    list_checkpoints,
    newest_good,
    pack_optimizer,
    prune_checkpoints,
    random_state,
    restore_random_state,
    save_checkpoint,
    unpack_optimizer,
)
from sparring.training.optimizers import OPTIMIZERS, build_optimizer


class Killed(BaseException):
    """The process ends here: no clean-up runs after it."""


def tensors(step: int) -> dict[str, dict[str, Tensor]]:
    return {"weights": {"w": torch.full((3,), float(step))}, "game": {"g": torch.arange(step % 100)}}


def save(root: Path, step: int) -> Checkpoint:
    return save_checkpoint(root, step, tensors(step), {"step": step})


def assert_whole(checkpoint: Checkpoint) -> None:
    checkpoint.verify()
    assert checkpoint.state()["step"] == checkpoint.step
    assert checkpoint.tensors("weights")["w"].tolist() == [checkpoint.step] * 3
    assert torch.equal(checkpoint.tensors("game")["g"], torch.arange(checkpoint.step % 100))
    assert set(checkpoint.tensors("random-0000")) >= {"torch", "python", "numpy"}


def steps(root: Path) -> list[int]:
    return [each.step for each in list_checkpoints(root)]


# Whole or not there


UNLINK = Path.unlink  # as it is outside these tests
OPERATIONS = [
    (os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (Path, "unlink"), (shutil, "rmtree"),
    (files, "write_tensors"),
]  # fmt: skip


def kill_at(patch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[str]:
    """End the process before, or right after, its `number`-th operation on files, writes half done; returns them."""
    done: list[str] = []

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            if len(done) > number:  # nothing happens any more: what would have cleaned up is dead
                raise Killed
            done.append(name)
            if len(done) <= number or after:
                result = real(*arguments, **options)
            if len(done) > number:
                if not after and name == "write_text":
                    arguments[0].write_bytes(b'{"half')
                if not after and name == "write_tensors":
                    arguments[0].write_bytes(b"half")
                if not after and name == "rmtree":
                    for file in sorted(arguments[0].glob("*.safetensors"))[:1]:
                        UNLINK(file)
                raise Killed
            return result

        return operation

    for owner, name in OPERATIONS:
        patch.setattr(owner, name, guarded(name, getattr(owner, name)))
    return done


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("again", [False, True], ids=["a new step", "a step that is there"])
def test_a_process_killed_between_any_two_operations_leaves_a_complete_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, after: bool
) -> None:
    seen = set()
    for number in range(60):
        root = tmp_path / str(number)
        for step in (1, 2, 3):
            save(root, step)
        with monkeypatch.context() as patch:
            done = kill_at(patch, number, after=after)
            try:
                save(root, 3 if again else 4)
                prune_checkpoints(root, keep=2, best=1)
                survived = True
            except Killed:
                survived = False
        listed = steps(root)
        for checkpoint in list_checkpoints(root):
            assert_whole(checkpoint)
        assert {1, 2} & set(listed) and listed[-1] >= 2, done
        seen.add(tuple(listed))
        # The next start cleans up and goes on.
        save(root, 5)
        prune_checkpoints(root, keep=1, best=None)
        assert [path.name for path in root.iterdir()] == ["step-00000005"]
        if survived:
            break
    else:
        raise AssertionError("the save never came to its end")
    assert number >= 12
    assert ((1, 2, 3) if again else (1, 3, 4)) in seen


@pytest.mark.parametrize("number", range(4))
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    save(tmp_path, 1)
    real, count = files.write_tensors, 0

    def write(path: Path, content: Any) -> None:
        nonlocal count
        count += 1
        if count > number:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, content)

    def flush(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_tensors", write)
    if number == 3:
        monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_one_process_that_cannot_write_fails_all_and_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(OSError, match="another process could not write"):
        save_checkpoint(tmp_path, 2, tensors(2), {}, any_process=lambda failed: True)
    assert steps(tmp_path) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_helper_process_writes_its_random_state_alone(tmp_path: Path) -> None:
    (tmp_path / ".step-00000007.tmp").mkdir()
    save_checkpoint(tmp_path, 7, tensors(7), {}, rank=1)
    assert [path.name for path in (tmp_path / ".step-00000007.tmp").iterdir()] == ["random-0001.safetensors"]
    assert list_checkpoints(tmp_path) == []


# Finding and keeping


def test_checkpoints_are_listed_by_step_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    for step in (20, 3, 100_000_000):
        save(tmp_path, step)
    (tmp_path / "step-00000050").mkdir()
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-00000060").write_text("a file")
    assert steps(tmp_path) == [3, 20, 100_000_000]
    assert list_checkpoints(tmp_path / "missing") == []


def test_pruning_keeps_the_newest_and_the_best_and_removes_leftovers(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step)
    (tmp_path / ".step-00000006.tmp").mkdir()
    (tmp_path / ".step-00000002.old").mkdir()
    prune_checkpoints(tmp_path, keep=2, best=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000004", "step-00000005"]
    prune_checkpoints(tmp_path, keep=3, best=None)
    assert steps(tmp_path) == [2, 4, 5]


def damage_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: damage_bit(folder / "game.safetensors"),
        lambda folder: damage_bit(folder / "random-0000.safetensors"),
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: (folder / "game.safetensors").write_bytes((folder / "game.safetensors").read_bytes()[:-1]),
        lambda folder: (folder / "game.safetensors").write_bytes(b""),
        lambda folder: (folder / "state.json").write_text('{"format": 1, "fi'),
        lambda folder: (folder / "state.json").write_text("{}"),
        lambda folder: (folder / "state.json").write_text("[1]"),
        lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe\x00"),
    ],
    ids=["bit", "random bit", "missing", "short", "empty", "half state", "no sums", "no mapping", "no text"],
)
def test_damage_of_any_kind_is_noticed_and_passed_over(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    save(tmp_path, 1)
    damage(save(tmp_path, 2).folder)
    said: list[str] = []
    newest = newest_good(tmp_path, said.append)
    assert newest is not None and newest.step == 1
    (line,) = said
    assert "step-00000002" in line
    shutil.rmtree(tmp_path / "step-00000001")
    assert newest_good(tmp_path, said.append) is None


def test_tied_and_strided_tensors_are_saved_by_value(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    content = {
        "tied": base,
        "same": base,
        "turned": base.t(),
        "part": base[:, 1],
        "half": base.bfloat16(),
        "one": base[0, 0],
    }
    read = save_checkpoint(tmp_path, 1, {"game": content}, {}).tensors("game")
    assert all(torch.equal(value, content[name]) and value.dtype == content[name].dtype for name, value in read.items())


def test_a_file_that_is_not_tensors_is_damage(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    with pytest.raises(Damaged, match=r"other\.safetensors cannot be read"):
        checkpoint.tensors("other")
    torch.save({"w": torch.ones(2)}, checkpoint.folder / "weights.safetensors")
    with pytest.raises(Damaged, match=r"weights\.safetensors cannot be read"):
        checkpoint.tensors("weights")


def test_a_checkpoint_holds_tensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    folder = save(tmp_path, 3).folder
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    state = json.loads((folder / "state.json").read_text())
    assert set(state["files"]) == {path.name for path in folder.iterdir()} - {"state.json"}


# Random numbers


@pytest.fixture
def restored() -> Iterator[None]:
    before = random_state()
    yield
    restore_random_state(before)


def draw() -> list[Any]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.standard_normal(),
        torch.rand(3),
        torch.randn(1),
    ]


@pytest.mark.parametrize("gauss", [False, True], ids=["no half", "half of a pair left"])
def test_every_generator_goes_on_exactly_also_with_half_a_gaussian_pair_in_hand(
    tmp_path: Path, restored: None, gauss: bool
) -> None:
    random.seed(3), np.random.seed(4), torch.manual_seed(5)
    if gauss:  # both libraries draw pairs and keep the second
        random.gauss(0, 1), np.random.standard_normal(), torch.randn(1)
    assert (random.getstate()[2] is not None) is gauss
    assert bool(np.random.get_state()[3]) is gauss
    checkpoint = save(tmp_path, 1)
    expected = draw()
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    restore_random_state(checkpoint.tensors("random-0000"))
    for got, wanted in zip(draw(), expected, strict=True):
        assert torch.equal(torch.as_tensor(got), torch.as_tensor(wanted))


def test_looking_at_the_random_state_does_not_change_it(restored: None) -> None:
    first, second = random_state(), random_state()
    assert all(torch.equal(first[name], second[name]) or first[name].isnan().all() for name in first)


# Optimisers


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def play(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for step in range(count):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 6).reshape(2, 3) * (step + 1)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("extra", [{}, {"momentum": 0.9}], ids=["plain", "momentum"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_goes_on_exactly_from_tensors_and_json(tmp_path: Path, name: str, extra: dict[str, float]) -> None:
    spec = {"name": name, "lr": 0.01, "weight_decay": 0.1} | (extra if name in ("rmsprop", "sgd") else {})
    whole, cut, fresh = net(), net(), net()
    optimizers = {each: build_optimizer("player", list(each.parameters()), spec) for each in (whole, cut, fresh)}
    play(whole, optimizers[whole], 5)
    play(cut, optimizers[cut], 2)
    optimizers[cut].param_groups[0]["lr"] = 0.01

    packed, plain = pack_optimizer(optimizers[cut], "player")
    other, _ = pack_optimizer(optimizers[whole], "playerb")
    checkpoint = save_checkpoint(tmp_path, 2, {"optimizers": {**packed, **other}}, {"plain": plain})
    fresh.load_state_dict(cut.state_dict())
    unpack_optimizer(optimizers[fresh], "player", checkpoint.tensors("optimizers"), checkpoint.state()["plain"])
    for network in (cut, fresh):
        play(network, optimizers[network], 3)
    for mine, theirs, other_ in zip(fresh.parameters(), cut.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.shape == other_.shape
    again, _ = pack_optimizer(optimizers[fresh], "player")
    expected, _ = pack_optimizer(optimizers[cut], "player")
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[key], expected[key]) for key in again)
