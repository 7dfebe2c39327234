"""Whole files and whole folders: a failure at any moment leaves what was there before, and nothing half."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring import files
from sparring.files import publish_folder, whole_folder, write_json, write_whole


class Killed(BaseException):
    """The process ends here: nothing after it runs, no clean-up either."""


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_written_file_is_there_with_its_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "er" / "file.txt", "größer")
    write_whole(tmp_path / "bytes.bin", b"\x00\xff")
    write_json(tmp_path / "value.json", {"größe": [1, 2]})
    assert (tmp_path / "deep" / "er" / "file.txt").read_bytes() == "größer".encode()
    assert (tmp_path / "bytes.bin").read_bytes() == b"\x00\xff"
    assert '"größe"' in (tmp_path / "value.json").read_text()


@pytest.mark.parametrize(("owner", "operation"), [(os, "fsync"), (Path, "replace"), (Path, "open")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, operation: str
) -> None:
    write_whole(tmp_path / "file.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(owner, operation, full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_whole(tmp_path / "file.txt", "new")
    assert content(tmp_path) == {"file.txt": "old"}


def test_a_file_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file.txt", "old")
    seen = []
    flush = os.fsync

    def look(handle: int) -> None:
        seen.append((tmp_path / "file.txt").read_text())
        flush(handle)

    monkeypatch.setattr(os, "fsync", look)
    write_whole(tmp_path / "file.txt", "new")
    assert seen == ["old", "new"]  # flushed before the rename, and the rename after it


def fill(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "a").write_text("new a")
    (folder / "inner" / "b").write_text("new b")


@pytest.mark.parametrize("before", [False, True])
def test_a_whole_folder_appears_with_all_its_files_and_replaces_an_older_one(tmp_path: Path, before: bool) -> None:
    target = tmp_path / "runs" / "one"
    if before:
        target.mkdir(parents=True)
        (target / "stale").write_text("old")
    with whole_folder(target) as folder:
        assert folder.parent == target.parent
        fill(folder)
        assert target.exists() is before
    assert content(target) == {"a": "new a", "inner/b": "new b"}
    assert [path.name for path in target.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("before", [False, True])
def test_an_error_inside_leaves_the_folder_as_it_was(tmp_path: Path, before: bool) -> None:
    target = tmp_path / "one"
    if before:
        target.mkdir()
        (target / "stale").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as folder:
        fill(folder)
        raise KeyboardInterrupt
    assert content(tmp_path) == ({"one/stale": "old"} if before else {})


def test_what_an_earlier_crash_left_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / ".one.tmp").mkdir()
    (tmp_path / ".one.tmp" / "half").write_text("half")
    with whole_folder(tmp_path / "one") as folder:
        fill(folder)
    assert content(tmp_path) == {"one/a": "new a", "one/inner/b": "new b"}


def fail_at(patch: pytest.MonkeyPatch, number: int, error: Callable[[], BaseException]) -> list[str]:
    """Make the `number`-th flush or rename fail; returns the list of those that were tried."""
    tried: list[str] = []

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any) -> Any:
            tried.append(name)
            if len(tried) == number + 1:
                raise error()
            return real(*arguments)

        return operation

    patch.setattr(os, "fsync", guarded("fsync", os.fsync))
    patch.setattr(Path, "rename", guarded("rename", Path.rename))
    return tried


@pytest.mark.parametrize("before", [False, True])
def test_publishing_fails_as_if_it_had_never_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    for number in range(20):
        target = tmp_path / f"{number}" / "one"
        target.parent.mkdir()
        if before:
            target.mkdir()
            (target / "stale").write_text("old")
        with monkeypatch.context() as patch:
            tried = fail_at(patch, number, lambda: OSError(errno.EIO, "the disk is gone"))
            try:
                with whole_folder(target) as folder:
                    fill(folder)
            except OSError:
                renamed = number == 4 + before
                # After the last rename the new folder stands: only its durability could not be confirmed.
                expected = {"one/a": "new a", "one/inner/b": "new b"} if renamed else {}
                assert content(target.parent) == (expected or ({"one/stale": "old"} if before else {})), tried
            else:
                break
    assert len(tried) == 5 + before  # two files, two folders, and one rename or two
    assert number == len(tried)


def test_every_file_is_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    fill(tmp_path / "temporary")
    tried = fail_at(monkeypatch, -2, Killed)
    publish_folder(tmp_path / "temporary", tmp_path / "final")
    assert tried == ["fsync", "fsync", "fsync", "rename", "fsync"]


def test_systems_that_cannot_flush_a_folder_are_none_the_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> int:
        raise PermissionError

    monkeypatch.setattr(files.os, "open", refuse)
    files.flush_folder(tmp_path)
