"""Five hundred corrupted images in a folder of a hundred good ones: a training finishes and names each bad file."""

from __future__ import annotations

import html
import io
import json
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparring
from shell import TINY, sets
from sparring.errors import UserError

GOOD, BAD = 100, 500


def picture(number: int) -> bytes:
    """A 12×12 picture: every other one a PNG, the others JPEGs."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:12, 0:12]
    waves = np.sin(rows[..., None] * rng.uniform(0.2, 1, 3) + columns[..., None] * rng.uniform(0.2, 1, 3))
    stream = io.BytesIO()
    Image.fromarray((127.5 + 127.5 * waves).astype(np.uint8)).save(stream, "JPEG" if number % 2 else "PNG")
    return stream.getvalue()


def truncated(chance: random.Random, data: bytes) -> bytes:
    return data[: int(len(data) * chance.uniform(0.02, 0.9))]


def bits_flipped(chance: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 8, 64])):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def wrong_magic(chance: random.Random, data: bytes) -> bytes:
    return bytes(chance.randrange(256) for _ in range(8)) + data[8:]


def stranger(chance: random.Random, data: bytes) -> bytes:
    return chance.choice([b"%PDF-1.4\n", b"PK\x03\x04", b"<html>", b"\x1f\x8b\x08"]) + data


def empty(chance: random.Random, data: bytes) -> bytes:
    return b""


def zeros(chance: random.Random, data: bytes) -> bytes:
    return bytes(len(data))


def zeroed_tail(chance: random.Random, data: bytes) -> bytes:
    """As a file system leaves it after a crash: the length is right, the blocks were never written."""
    kept = int(len(data) * chance.uniform(0.05, 0.5))
    return data[:kept] + bytes(len(data) - kept)


def noise(chance: random.Random, data: bytes) -> bytes:
    return chance.randbytes(len(data))


def bomb(chance: random.Random, data: bytes) -> bytes:
    """A small PNG that claims, or really unpacks to, billions of pixels."""
    side = chance.choice([60_000, 2**31 - 1])
    rows = zlib.compress(bytes(10_000_000), 9)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# A flipped bit may leave an image that can be decoded; after the others there is none.
CORRUPTIONS: dict[Callable[[random.Random, bytes], bytes], int] = {
    truncated: 120, bits_flipped: 120, wrong_magic: 60, stranger: 30, empty: 40, zeros: 40, zeroed_tail: 30, noise: 40,
    bomb: 20,
}  # fmt: skip
CERTAIN = {each.__name__ for each in CORRUPTIONS} - {"bits_flipped", "zeroed_tail", "truncated"}


def pillow_opens(data: bytes) -> bool:
    """Whether the imaging library gives every pixel without a complaint."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        return True
    except Exception:
        return False


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; names begin with what was done to the file."""
    folder = tmp_path_factory.mktemp("broken") / "photos"
    folder.mkdir()
    chance = random.Random(0)
    kinds = [kind for kind, count in CORRUPTIONS.items() for _ in range(count)]
    assert len(kinds) == BAD
    for number in range(GOOD):
        (folder / f"good-{number:03d}.{'jpg' if number % 2 else 'png'}").write_bytes(picture(number))
    for number, kind in enumerate(kinds):
        data = picture(1000 + number)
        damaged = kind(chance, data)
        (folder / f"{kind.__name__}-{number:03d}.{'jpg' if number % 2 else 'png'}").write_bytes(damaged)
    return folder


def test_a_training_on_a_folder_of_mostly_broken_images_finishes_and_names_each(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = {**TINY, "data.limit": "null", "data.size": 12, "train.steps": 3}
    command = [sys.executable, "-m", "sparring", "train", "dcgan", "--data", str(photos), "--out", str(run)]
    ended = subprocess.run(
        [*command, "--device", "cpu", "--json", *sets(keys)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    result = json.loads(ended.stdout)
    assert result["steps"] == 3

    named = dict(result["data"]["broken"])
    files = {path.name: path for path in photos.iterdir()}
    assert result["data"]["count"] + len(named) == len(files) == GOOD + BAD
    assert result["data"]["shape"] == [3, 12, 12]
    assert not [name for name in named if name.startswith("good-")]
    certain = {name for name in files if name.split("-")[0] in CERTAIN}
    undecodable = {name for name, path in files.items() if not pillow_opens(path.read_bytes())}
    assert len(certain) == 230 and len(undecodable) > 350
    assert (certain | undecodable) <= named.keys()
    assert all(reason.strip() and "\n" not in reason for reason in named.values())

    page = html.unescape((run / "report.html").read_text())
    assert not [name for name in named if name not in page]
    assert f"({len(named)})" in page
    # The terminal is not flooded: ten by name, and how many more there are.
    assert ended.stderr.count("skipped ") == 11
    assert f"skipped {len(named) - 10} more broken samples" in ended.stderr


def test_the_broken_images_are_named_again_when_they_come_from_the_cache(photos: Path, tmp_path: Path) -> None:

    settings = {**TINY, "data.limit": "null", "data.size": 12, "data.source": photos, "train.steps": 0}
    results = [
        sparring.train(
            "dcgan", out=tmp_path / name, set=[f"{k}={v}" for k, v in settings.items()], device="cpu", quiet=True
        )
        for name in ("first", "second")
    ]
    assert len(results[0].facts["data"]["broken"]) > 350
    assert results[0].facts["data"] == results[1].facts["data"]


def test_a_folder_of_broken_images_alone_is_the_users_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for path in sorted(photos.glob("noise-*"))[:5]:
        shutil.copy(path, tmp_path / "bad")
    with pytest.raises(UserError, match=r"noise-") as caught:
        sparring.train("dcgan", data=str(tmp_path / "bad"), out=tmp_path / "run", device="cpu", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
