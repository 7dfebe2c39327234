"""Streamed images: the batches of images in memory, from any server, whatever happens to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharded import Server, png, write_digits, write_tar
from sparring.core.game import Batch
from sparring.data import remote
from sparring.data.dataset import choose, order_of
from sparring.data.sampling import Sampler
from sparring.data.sources import open_source
from sparring.domains.image.data import ImageOptions, Images, open_images
from sparring.domains.image.stream import ImageStream
from sparring.errors import UserError

torch.set_num_threads(1)

Opener = Callable[..., ImageStream]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.02)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens shards, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_(source: object, *, cache: str = "cache", **options: Any) -> ImageStream:
            values = {"source": str(source), "cache": str(tmp_path / cache), **options}
            data = open_images(ImageOptions.model_validate(values))
            assert isinstance(data, ImageStream)
            stack.callback(data.close)
            return data

        yield open_


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_digits(tmp_path / "shards")
    return tmp_path / "shards"


def draw(data: Images, sampler: Sampler, batches: int) -> list[Batch]:
    torch.manual_seed(5)
    return [data.batch(sampler.next()) for _ in range(batches)]


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            assert torch.equal(left[name], right[name])


def in_memory(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Images:
    """The same shards, decoded whole and held in memory as any data is."""
    with monkeypatch.context() as patch:
        patch.setattr("sparring.domains.image.data.is_stream", lambda source: False)
        values = {"source": str(shards), "cache": str(tmp_path / "whole"), **options}
        return open_images(ImageOptions.model_validate(values)).to(torch.device("cpu"))


@pytest.mark.parametrize("options", [{}, {"size": [6, 10], "channels": 3, "augment": {"flip_horizontal": True}}])
def test_streamed_batches_are_those_of_memory_bit_for_bit(
    shards: Path, tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    memory = in_memory(shards, tmp_path, monkeypatch, **options)
    with Server(shards).running() as server:
        streamed = opened(server.url, **options).to(torch.device("cpu"))
        assert streamed.spec == memory.spec
        for rank in range(2):
            samplers = [Sampler(120, 16, 3, rank=rank, world=2, order=order_of(streamed, 16, 3)) for _ in range(2)]
            for sampler in samplers:
                sampler.position = 48  # as a resumed training does
            assert_same(draw(streamed, samplers[0], 20), draw(memory, samplers[1], 20))  # over the border of two epochs


def test_an_epoch_of_two_processes_is_every_image_once(shards: Path, opened: Opener) -> None:
    seen: list[Tensor] = []
    for rank in range(2):
        data = opened(shards)  # two processes of a machine share the cache
        sampler = Sampler(120, 8, 0, rank=rank, world=2, order=data.order(8, 0))
        seen += [data.batch(sampler.next())["data"].flatten(1) for _ in range(15)]
    whole = opened(shards).batch(torch.arange(120))["data"].flatten(1)
    assert sorted(torch.cat(seen).tolist()) == sorted(whole.tolist())


def test_unlabelled_shards_give_no_labels(tmp_path: Path, opened: Opener) -> None:
    write_digits(tmp_path / "plain", labelled=False)
    data = opened(tmp_path / "plain")
    assert data.spec.classes == () and "label" not in data.batch(torch.tensor([3]))


def test_moved_shards_are_the_same_data_and_others_are_not(shards: Path, tmp_path: Path, opened: Opener) -> None:
    first = opened(shards)
    assert opened(shards, channels=3).fingerprint != first.fingerprint
    assert opened(shards, stream={"lanes": 3}).fingerprint == first.fingerprint
    write_digits(tmp_path / "other", count=119)
    assert opened(tmp_path / "other").fingerprint != first.fingerprint
    shards.rename(tmp_path / "moved")
    moved = opened(tmp_path / "moved")
    assert moved.fingerprint == first.fingerprint
    with Server(tmp_path / "moved").running() as server:
        assert opened(server.url).fingerprint == first.fingerprint


def broken_shards(folder: Path) -> Path:
    """Two shards of four images; the second and third, and the last, are broken. Pixels tell the images apart."""
    folder.mkdir()
    images = [png(np.full((4, 4), 20 * number, np.uint8)) for number in range(8)]
    images[1], images[2], images[7] = images[1][:40], b"", b"nonsense"
    for shard in range(2):
        members: dict[str, bytes] = {}
        for number in range(4 * shard, 4 * shard + 4):
            members |= {f"{number}.png": images[number], f"{number}.cls": b"%d" % (number % 2)}
        write_tar(folder / f"{shard}.tar", members)
    return folder


def test_a_broken_image_is_named_and_the_next_of_its_shard_stands_in(tmp_path: Path, opened: Opener) -> None:
    data = opened(broken_shards(tmp_path / "broken"))
    batch = data.batch(torch.arange(8))
    pixels = ((batch["data"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert pixels == [0, 60, 60, 60, 80, 100, 120, 80]
    assert batch["label"].tolist() == [0, 1, 1, 1, 0, 1, 0, 0]  # of the image that is shown
    data.batch(torch.arange(8))
    assert [name for name, _ in data.broken] == ["0.tar:1", "0.tar:2", "1.tar:7"]  # each once


def test_a_shard_without_any_image_is_an_error(tmp_path: Path, opened: Opener) -> None:
    folder = broken_shards(tmp_path / "broken")
    write_tar(folder / "2.tar", {"8.png": b"", "9.png": b"x"})
    data = opened(folder)
    data.batch(torch.arange(8))
    with pytest.raises(UserError, match=r"2\.tar: none of its 2 images can be read"):
        data.batch(torch.tensor([8]))


def test_the_cache_never_exceeds_its_bound_and_shards_come_back(shards: Path, tmp_path: Path, opened: Opener) -> None:
    bound = 6 * (16 * (40 * 40 + 16) + 4096)
    tight = opened(shards, size=40, cache="tight", stream={"lanes": 2, "open": 1, "cache_gb": bound / 2**30})
    loose = opened(shards, size=40, stream={"lanes": 2, "open": 1})
    samplers = [Sampler(120, 8, 0, order=data.order(8, 0)) for data in (tight, loose)]
    for _ in range(45):
        assert_same([tight.batch(samplers[0].next())], [loose.batch(samplers[1].next())])
        held = 0
        # os.walk passes over a folder that is removed in this moment; Path.rglob does not.
        for folder, _, names in os.walk(tmp_path / "tight" / "streamed"):
            for name in names:
                if name.endswith(".npy"):
                    with contextlib.suppress(FileNotFoundError):
                        held += (Path(folder) / name).stat().st_size
        assert held <= bound
    assert len(list((tmp_path / "tight" / "streamed").glob("[!.]*"))) < 8
    assert len(list((tmp_path / "cache" / "streamed").glob("[!.]*"))) == 8


def test_a_cache_too_small_for_what_is_open_says_so(shards: Path, opened: Opener) -> None:
    data = opened(shards, stream={"lanes": 4, "open": 1, "cache_gb": 2 * 5376 / 2**30})
    with pytest.raises(UserError, match=r"4 shards are open at a time .* lower data\.stream\.lanes"):
        Sampler(120, 8, 0, order=data.order(8, 0)).next()


def test_a_server_that_drops_and_recovers_changes_nothing(shards: Path, opened: Opener) -> None:
    with Server(shards).running() as server:
        server.fail = lambda path, number: ("drop", "error", None)[min(number, 3) - 1]
        streamed, local = opened(server.url, cache="streamed"), opened(shards)
        samplers = [Sampler(120, 16, 1, order=data.order(16, 1)) for data in (streamed, local)]
        assert_same(draw(streamed, samplers[0], 8), draw(local, samplers[1], 8))


def test_a_server_that_stays_away_ends_in_one_line_and_can_be_gone_on_with(shards: Path, opened: Opener) -> None:
    with Server(shards).running() as server:
        data = opened(server.url, stream={"patience": 0.3})
        server.fail = lambda path, number: "error"
        with pytest.raises(UserError, match=r"images-00000\d\.tar: cannot be read .*sparring resume") as caught:
            data.batch(torch.arange(4))
        assert "\n" not in str(caught.value)
        server.fail = lambda path, number: None
        assert len(data.batch(torch.arange(4))["data"]) == 4


@pytest.mark.parametrize("how", ["truncated", "changed"])
@pytest.mark.parametrize("web", [True, False], ids=["http", "local"])
def test_a_shard_that_is_not_what_the_index_says_is_refused(shards: Path, opened: Opener, how: str, web: bool) -> None:
    file = shards / "images-000003.tar"
    content = bytearray(file.read_bytes())
    with Server(shards).running() as server:
        data = opened(server.url if web else shards, stream={"patience": 0.3})
        if how == "truncated":
            del content[len(content) // 2 :]
        else:
            content[600] ^= 1
        file.write_bytes(content)
        data.batch(torch.arange(48))
        with pytest.raises(UserError, match=r"images-000003\.tar: (is truncated|cannot be read after)"):
            data.batch(torch.tensor([48]))


def test_shards_that_come_next_are_made_ready_ahead(shards: Path, opened: Opener) -> None:
    data = opened(shards, stream={"lanes": 1, "open": 1})
    sampler = Sampler(120, 4, 0, order=data.order(4, 0))
    data.batch(sampler.next())
    deadline = time.monotonic() + 10
    ready = 0
    while ready < 2 and time.monotonic() < deadline:
        data.batch(sampler.order.indices(0, 1))
        ready = sum(data._cache.has(data._reading.key(shard)) for shard in range(8))
        time.sleep(0.02)
    assert ready == 2  # the one that is read and the one after it


def test_a_killed_background_process_is_started_again(shards: Path, opened: Opener) -> None:
    with Server(shards).running() as server:
        data = opened(server.url)
        for shard in range(4):
            os.kill(data._loader.process.pid, signal.SIGKILL)
            assert len(data.batch(torch.arange(16 * shard, 16 * shard + 16))["data"]) == 16


def test_what_is_measured_against_opens_few_shards(tmp_path: Path, opened: Opener) -> None:
    write_digits(tmp_path / "many", count=120, per_shard=3)
    with Server(tmp_path / "many").running() as server:
        data = opened(server.url)
        chosen = choose(data, 20, 4)
        data.batch(chosen, augment=False)
        fetched = {path for path, _ in server.asked if path.endswith(".tar")}
    assert len(chosen.unique()) == 20
    assert len(fetched) <= 16


@pytest.mark.parametrize("key", ["limit", "classes", "labels_file"])
def test_what_does_not_go_with_streaming_is_refused(shards: Path, opened: Opener, key: str) -> None:
    value: object = {"limit": 5, "classes": ["1"], "labels_file": "x.csv"}[key]
    with pytest.raises(UserError, match=f"is streamed, and data.{key} is for data that is not"):
        opened(shards, **{key: value})


def test_different_sizes_are_an_error_unless_one_is_asked_for(tmp_path: Path, opened: Opener) -> None:
    folder = tmp_path / "sizes"
    folder.mkdir()
    for number, side in enumerate((8, 12)):
        write_tar(folder / f"{number}.tar", {f"{number}.png": png(np.zeros((side, side, 3), np.uint8))})
    with pytest.raises(UserError, match="from 8×8 to 12×12"):
        opened(folder)
    assert opened(folder, size=10).batch(torch.arange(2))["data"].shape == (2, 3, 10, 10)


def test_shards_are_a_source_like_any_other(shards: Path) -> None:
    source = open_source(str(shards))
    assert len(source) == 120 and source.names[17] == "images-000001.tar:000000017"
    assert json.loads((shards / "index.json").read_text())["images"]["label_counts"] == [
        source.labels.count(str(number)) for number in range(10)
    ]
    with pytest.raises(UserError, match="copy it to this machine"):
        open_source("http://127.0.0.1/shards")
