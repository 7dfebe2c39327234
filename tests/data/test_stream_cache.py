"""The cache of decoded shards: bounded, shared, whole entries only, nothing removed that is read."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sparring.data.stream_cache import NoRoom, ShardCache
from sparring.errors import UserError

SIZE = 4000


def fill(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((3, 1, 32, 32), np.uint8))
    np.save(folder / "rows.npy", np.arange(3))
    (folder / "broken.json").write_text(json.dumps([["a", "damaged"]]))


def taken(root: Path) -> int:
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file() and not file.name.endswith("lock"))


def test_an_entry_is_what_was_built(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 10 * SIZE)
    assert cache.open("a") is None
    cache.build("a", SIZE, fill)
    entry = cache.open("a")
    assert entry is not None
    assert entry.images.shape == (3, 1, 32, 32) and entry.labels is None and entry.broken == [("a", "damaged")]
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"images.npy", "rows.npy", "broken.json"}


def test_the_bound_is_kept_and_what_was_read_last_stays(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 3 * SIZE)
    for name in "abcde":
        cache.build(name, SIZE, fill)
        assert taken(tmp_path) <= 3 * SIZE
        time.sleep(0.02)
        if first := cache.open("a"):
            first.close()
        time.sleep(0.02)
    assert cache.has("a") and cache.has("e")
    assert not cache.has("b") and not cache.has("c")


def test_what_is_read_is_not_removed(tmp_path: Path) -> None:
    cache, other = ShardCache(tmp_path, 2 * SIZE), ShardCache(tmp_path, 2 * SIZE)
    entries = []
    for name in "ab":
        cache.build(name, SIZE, fill)
        entries.append(cache.open(name))
    with pytest.raises(NoRoom):
        other.build("c", SIZE, fill)
    assert entries[0] is not None
    entries[0].close()
    other.build("c", SIZE, fill)
    assert not cache.has("a") and cache.has("b")
    assert int(entries[0].images.sum()) == 0  # its memory is still there


def test_an_entry_larger_than_the_bound_says_which_bound_would_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.stream\.cache_gb="):
        ShardCache(tmp_path, SIZE).build("a", 2 * SIZE, fill)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    cache = ShardCache(tmp_path, 2 * SIZE)
    with pytest.raises(RuntimeError):
        cache.build("a", SIZE, fail)
    assert not cache.has("a") and taken(tmp_path) == 0


def test_a_damaged_entry_is_built_again(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2 * SIZE)
    cache.build("a", SIZE, fill)
    file = tmp_path / "a" / "images.npy"
    file.write_bytes(file.read_bytes()[:1000])
    assert cache.open("a") is None
    cache.build("a", SIZE, fill)
    assert cache.open("a") is not None


def _die_building(root: Path) -> None:
    def fill_and_die(folder: Path) -> None:
        fill(folder)
        os._exit(9)

    ShardCache(root, 2 * SIZE).build("dead", SIZE, fill_and_die)


def test_room_that_a_killed_process_had_reserved_is_free_again(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_building, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9 and taken(tmp_path) > 0
    cache = ShardCache(tmp_path, 2 * SIZE)
    for name in "ab":
        cache.build(name, SIZE, fill)
    assert cache.has("a") and cache.has("b")
    assert not list(tmp_path.glob(".build-*"))


def _outlive_the_builder(root: Path, born: Path) -> None:
    def fill_with_child(folder: Path) -> None:
        if os.fork() == 0:  # as a decoder that hangs, and is not ended with the process that started it
            born.touch()
            time.sleep(20)
            os._exit(0)
        while not born.exists():
            time.sleep(0.01)
        os._exit(9)

    ShardCache(root, 2 * SIZE).build("a", SIZE, fill_with_child)


def test_a_child_that_outlives_a_killed_builder_holds_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_outlive_the_builder, args=(tmp_path / "cache", tmp_path / "born")
    )
    process.start()
    process.join(10)
    assert process.exitcode == 9
    began = time.monotonic()
    cache = ShardCache(tmp_path / "cache", SIZE)
    cache.build("a", SIZE, fill)
    assert cache.has("a") and time.monotonic() - began < 10
    assert not list((tmp_path / "cache").glob(".build-*"))


def test_what_several_want_is_built_once_and_room_is_counted_while_building(tmp_path: Path) -> None:
    built: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        built.append("a")
        entered.set()
        go_on.wait(10)
        fill(folder)

    def build() -> None:
        ShardCache(tmp_path, 2 * SIZE).build("a", SIZE, slow)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    cache = ShardCache(tmp_path, 2 * SIZE)
    cache.build("b", SIZE, fill)
    entry = cache.open("b")
    with pytest.raises(NoRoom):  # one is being built, one is read
        cache.build("c", SIZE, fill)
    go_on.set()
    for thread in threads:
        thread.join()
    assert built == ["a"] and entry is not None
