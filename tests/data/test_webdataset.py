"""Shards: what is read from tars of any origin, what the index says of them, what is written."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharded import Server, png, write_digits, write_tar
from shell import sparring
from sparring.data import stream_index
from sparring.data.augment import Augment
from sparring.data.prepare import prepare_images
from sparring.data.sources import open_source
from sparring.data.stream_index import is_stream, open_index
from sparring.data.tar_shards import Encoded, write_tars
from sparring.data.webdataset import labelling_of, read_samples
from sparring.domains.image.stream import StreamOptions, open_stream
from sparring.errors import UserError

DOT = png(np.full((4, 4), 7, np.uint8))


def test_members_that_share_a_name_up_to_its_first_dot_are_a_sample(tmp_path: Path) -> None:
    members = {
        "cats/1.left.PNG": DOT,
        "cats/1.right.png": b"second",
        "cats/1.json": b'{"caption": "a cat", "class": 3}',
        "cats/2.cls": b" 5\n",
        "cats/2.jpg": DOT,
        "3.txt": b"no image",
        "__index__.json": b"{}",
        ".hidden.png": DOT,
        "4.png": DOT,
        "4.txt": b"a long\ncaption",
    }
    file = write_tar(tmp_path / "a.tar", members)
    samples = read_samples(file)
    assert [sample.key for sample in samples] == ["cats/1", "cats/2", "4"]
    assert [sample.labels for sample in samples] == [{"json": "3"}, {"cls": "5"}, {}]
    assert [file.read_bytes()[each.offset : each.offset + each.size] for each in samples] == [DOT] * 3


@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
def test_a_set_is_labelled_by_what_every_sample_has(tmp_path: Path, kind: str) -> None:
    def member(number: int) -> bytes:
        return b'{"label": %d}' % (number % 2) if kind == "json" else b"%d" % (number % 2)

    members = {f"{n}.{suffix}": DOT if suffix == "png" else member(n) for n in range(8) for suffix in ("png", kind)}
    assert labelling_of(read_samples(write_tar(tmp_path / "a.tar", members))) == kind
    del members[f"3.{kind}"]
    assert labelling_of(read_samples(write_tar(tmp_path / "b.tar", members))) is None


def test_samples_without_a_class_among_others_with_one_are_counted_and_named(tmp_path: Path) -> None:
    members = {"1.png": DOT, "1.cls": b"0", "2.png": DOT, "3.png": DOT, "3.cls": b"1"}
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set" / "a.tar", members)
    source = open_source(str(tmp_path / "set"))
    assert not source.labels and source.note.startswith("1 of 3 samples have no class in a .cls")
    spec = open_stream(
        str(tmp_path / "set"),
        size=None,
        channels=None,
        fit="crop",
        augment=Augment(),
        options=StreamOptions(),
        cache=tmp_path,
    ).spec
    assert spec.extra["label_note"] == source.note


def test_captions_are_no_classes(tmp_path: Path) -> None:
    members = {
        f"{n}.{suffix}": DOT if suffix == "png" else b"photo %d" % n for n in range(20) for suffix in ("png", "txt")
    }
    assert labelling_of(read_samples(write_tar(tmp_path / "a.tar", members))) is None


@pytest.mark.parametrize("keep", [0.5, 0.03, 0.0])
def test_a_truncated_tar_is_an_error_of_one_line(tmp_path: Path, keep: float) -> None:
    file = write_tar(tmp_path / "a.tar", {f"{n}.png": bytes(5000) for n in range(4)})
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep) + 100])
    with pytest.raises(UserError, match=r"a\.tar: not a plain tar, or a damaged one") as caught:
        read_samples(file)
    assert "\n" not in str(caught.value)


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(UserError, match="uncompressed"):
        read_samples(tmp_path / "a.tar")


def test_an_index_that_is_made_by_looking_says_what_the_written_one_says(tmp_path: Path) -> None:
    write_digits(tmp_path / "shards")
    written = open_index(str(tmp_path / "shards"))
    (tmp_path / "shards" / "index.json").unlink()
    seen: list[tuple[int, int]] = []
    made = open_index(str(tmp_path / "shards"), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    assert made.shards == written.shards
    assert (made.smallest, made.largest, made.channels) == (written.smallest, written.largest, written.channels)
    assert (made.classes, made.label_counts, made.labelling) == (written.classes, written.label_counts, "cls")


def test_shards_are_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_digits(tmp_path / "shards")
    (tmp_path / "shards" / "index.json").unlink()
    first = open_index(f"{tmp_path}/shards/*.tar")
    monkeypatch.delattr(stream_index, "read_samples")
    assert open_index(f"{tmp_path}/shards/*.tar") == first
    assert open_index(f"{tmp_path}/shards") == first


def test_the_index_of_a_web_folder_is_read_and_one_that_is_missing_made(tmp_path: Path) -> None:
    index = write_digits(tmp_path / "shards")
    with Server(tmp_path / "shards").running() as server:
        found = open_index(server.url)
        assert found.fingerprint() == index.fingerprint()
        assert [path for path, _ in server.asked] == ["/index.json"]
        assert open_index(f"{server.url}/images-{{000000..000007}}.tar") == found
        part = open_index(f"{server.url}/images-{{000000..000002}}.tar")
        assert len(part) == 48 and sum(part.label_counts) == 48
        (tmp_path / "shards" / "index.json").unlink()
        with pytest.raises(UserError, match=r"has no index\.json; say which shards there are"):
            open_index(server.url)


def test_a_list_of_shards_by_another_program_is_followed(tmp_path: Path) -> None:
    index = write_digits(tmp_path / "shards")
    plain = json.loads((tmp_path / "shards" / "index.json").read_text())
    foreign = [{"url": each["url"], "nsamples": each["nsamples"]} for each in plain["shardlist"][1:]]
    (tmp_path / "shards" / "index.json").write_text(json.dumps({"wids_version": 1, "shardlist": foreign}))
    assert is_stream(str(tmp_path / "shards"))
    assert open_index(str(tmp_path / "shards")).shards == index.shards[1:]


@pytest.mark.parametrize("damage", ["{", '{"shardlist": [], "images": {"version": 1}}', "[]"])
def test_a_damaged_index_is_an_error_of_one_line(tmp_path: Path, damage: str) -> None:
    write_digits(tmp_path)
    (tmp_path / "index.json").write_text(damage)
    with pytest.raises(UserError, match=r"index\.json: is ") as caught:
        open_index(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_only_shards_are_streamed(tmp_path: Path) -> None:
    write_tar(tmp_path / "photos.tar", {"a.png": DOT})
    assert is_stream(str(tmp_path)) and is_stream("http://host/x") and is_stream("shards/{0..9}.tar")
    assert not is_stream(str(tmp_path / "photos.tar"))  # an archive, as ever
    (tmp_path / "a.png").write_bytes(DOT)
    assert not is_stream(str(tmp_path)) and not is_stream("digits") and not is_stream("hf:x")


def test_prepared_shards_hold_the_images_and_labels_of_the_source(tmp_path: Path) -> None:
    source = open_source("digits")
    result = prepare_images(source, tmp_path / "out", format="tar", shard_mb=1)
    assert result.written == 1797
    back = open_source(str(tmp_path / "out"))
    index = open_index(str(tmp_path / "out"))
    assert len(index.shards) == 4 and all(shard.size <= 2**20 for shard in index.shards)
    assert sorted(back.labels) == sorted(source.labels)
    original = sorted((source.labels[n], source.load(n).tobytes()) for n in range(len(source)))
    assert sorted((back.labels[n], back.load(n).tobytes()) for n in range(len(back))) == original
    # In random order: every shard has every class.
    first = index.shards[0].count
    assert len(set(back.labels[:first])) == 10


def test_the_same_source_gives_the_same_shards(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare_images(open_source("digits"), tmp_path / name, format="tar", shard_mb=1)
    assert (tmp_path / "one" / "index.json").read_bytes() == (tmp_path / "two" / "index.json").read_bytes()


def test_shards_that_fail_to_be_written_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr("sparring.data.tar_shards.write_json", fail)
    with pytest.raises(OSError, match="disk"):
        prepare_images(open_source("digits"), tmp_path / "out", format="tar")
    assert list(tmp_path.iterdir()) == []


def test_names_of_classes_survive(tmp_path: Path) -> None:
    images = [Encoded(DOT, "png", (4, 4, 1), name) for name in ("red fox", "owl", "red fox")]
    (tmp_path / "out").mkdir()
    write_tars(tmp_path / "out", images, ["owl", "red fox"])
    assert open_source(str(tmp_path / "out")).labels == ["red fox", "owl", "red fox"]
    assert open_index(str(tmp_path / "out")).label_counts == (1, 2)


def test_the_command_writes_shards(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        Image.fromarray(np.full((6, 9, 3), ord(label), np.uint8)).save(folder / label / "1.png")
    ended = sparring("data", "prepare", folder, tmp_path / "out", "--shards", "--size", "4", "--json")
    assert ended.json["format"] == "tar" and ended.json["written"] == 2
    index = open_index(str(tmp_path / "out"))
    assert index.largest == (4, 4) and index.classes == ("a", "b") and index.channels == 3
