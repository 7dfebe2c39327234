"""Fetching: what drops is asked for again, what is not right is noticed, what stays away ends in one line."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharded import Server
from sparring.data import remote
from sparring.errors import UserError


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    data = bytes(range(256)) * 64
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file").write_bytes(data)
    return data


@pytest.fixture(params=[True, False], ids=["ranges", "no-ranges"])
def server(tmp_path: Path, content: bytes, request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(tmp_path / "site", ranges=request.param).running() as server:
        yield server


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART", 4096)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)


def test_a_file_arrives_whole(tmp_path: Path, server: Server, content: bytes) -> None:
    for size in (len(content), None):
        digest = remote.fetch(f"{server.url}/file", tmp_path / "copy", size=size, patience=5)
        assert (tmp_path / "copy").read_bytes() == content
        assert digest == remote.digest_of(tmp_path / "site" / "file")


def test_a_dropped_connection_costs_the_part_that_was_under_way(tmp_path: Path, server: Server, content: bytes) -> None:
    server.fail = lambda path, number: "drop" if number == 2 else None
    remote.fetch(f"{server.url}/file", tmp_path / "copy", size=len(content), patience=5)
    assert (tmp_path / "copy").read_bytes() == content
    if server.ranges:
        assert [first for _, first in server.asked] == [0, 4096, 4096, 8192, 12288]


def test_a_server_that_recovers_is_waited_for(tmp_path: Path, server: Server, content: bytes) -> None:
    server.fail = lambda path, number: "error" if number <= 3 else None
    remote.fetch(f"{server.url}/file", tmp_path / "copy", size=len(content), patience=5)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_server_that_stays_away_ends_in_one_line(tmp_path: Path, server: Server, content: bytes) -> None:
    server.fail = lambda path, number: "error"
    with pytest.raises(UserError, match=r"after 0\.1 seconds of trying .*sparring resume") as caught:
        remote.fetch(f"{server.url}/file", tmp_path / "copy", size=len(content), patience=0.1)
    assert "\n" not in str(caught.value)
    assert len(server.asked) >= 2


def test_what_is_forbidden_is_not_asked_for_again(tmp_path: Path, server: Server, content: bytes) -> None:
    server.fail = lambda path, number: "forbidden"
    with pytest.raises(UserError, match="403"):
        remote.fetch(f"{server.url}/file", tmp_path / "copy", size=len(content), patience=5)
    assert len(server.asked) == 1


def test_what_is_not_there_is_named(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match="other: is not there"):
        remote.fetch(f"{server.url}/other", tmp_path / "copy", size=5, patience=5)
    assert remote.read(f"{server.url}/other", patience=5) is None


def test_a_file_that_has_changed_is_noticed(tmp_path: Path, server: Server, content: bytes) -> None:
    with pytest.raises(UserError, match="truncated, or has changed"):
        remote.fetch(f"{server.url}/file", tmp_path / "copy", size=len(content), digest="0" * 32, patience=5)


def test_other_stores_are_read_through_fsspec(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/a/0.tar", b"zero" * 5000)
    files.pipe("/bucket/a/1.tar", b"one")
    found = remote.expand("memory://bucket/a/*.tar")
    assert found == ["memory:///bucket/a/0.tar", "memory:///bucket/a/1.tar"]
    remote.fetch(found[0], tmp_path / "copy", size=20000, patience=1)
    assert (tmp_path / "copy").read_bytes() == b"zero" * 5000
    assert remote.read(remote.beside(found[0], "1.tar"), patience=1) == b"one"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] in ("aiohttp", "s3fs"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"'aiohttp', which is not installed: pip install 'sparring\[stream\]'"):
        remote.read("http://127.0.0.1/index.json", patience=1)
    with pytest.raises(UserError, match=r"'s3fs', which is not installed: pip install 'sparring\[s3\]'"):
        remote.read("s3://bucket/index.json", patience=1)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(UserError, match="no reading from ftp://; there are http"):
        remote.read("ftp://host/index.json", patience=1)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(1, 4))
def test_numbers_in_braces_keep_their_zeros(first: int, more: int, width: int) -> None:
    span = "{" + f"{first:0{width}}..{first + more}" + "}"
    expanded = remote.expand(f"memory://x/{span}-{{a,b}}.tar")
    assert expanded == [
        f"memory://x/{number:0{max(width, len(str(first)))}}-{letter}.tar"
        for number in range(first, first + more + 1)
        for letter in "ab"
    ]


def test_local_patterns_find_files_in_order(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    assert remote.expand(f"{tmp_path}/*.tar") == [f"{tmp_path}/a.tar", f"{tmp_path}/b.tar"]
    with pytest.raises(UserError, match="no file matches"):
        remote.expand(f"{tmp_path}/*.zip")
    with pytest.raises(UserError, match="does not list its files"):
        remote.expand("http://host/*.tar")


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/0.tar", "file:///etc/passwd", "C:/0.tar"])
def test_an_index_names_nothing_that_does_not_lie_beside_it(name: str) -> None:
    for index in ("http://host/shards/index.json", "shards/index.json"):
        with pytest.raises(UserError, match="beside it"):
            remote.beside(index, name)


def test_names_in_an_index_are_beside_it() -> None:
    assert remote.beside("http://host/shards/index.json", "0.tar") == "http://host/shards/0.tar"
    assert remote.beside("s3://bucket/shards/index.json", "0.tar") == "s3://bucket/shards/0.tar"
    assert remote.beside("http://host/index.json", "https://mirror/0.tar") == "https://mirror/0.tar"
    assert remote.beside("shards/index.json", "0.tar") == "shards/0.tar"
