"""What `prepare` writes, what it leaves out, and what it never touches."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sparring.data.check import check_images
from sparring.data.naming import file_stems
from sparring.data.prepare import prepare_images
from sparring.data.shards import open_shards, write_shards
from sparring.data.source import ImageSource
from sparring.data.sources import open_source
from sparring.errors import UserError


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A valid small PNG file that claims 90,000 × 90,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """60 digits in ten class folders, enlarged, and one image of each fault, named for it."""
    folder = tmp_path / "messy"
    digits = load_digits()
    for index in range(60):
        image = np.kron(np.rint(digits.images[index] * (255 / 16)), np.ones((3, 3))).astype(np.uint8)
        file = folder / str(digits.target[index]) / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    seven = np.asarray(Image.open(folder / "7" / "7.png"))
    (folder / "7" / "copy.png").write_bytes(png(seven))
    (folder / "8" / "conflict.png").write_bytes(png(seven))
    (folder / "7" / "near.png").write_bytes(png(np.clip(seven.astype(int) + 2, 0, 255).astype(np.uint8)))
    (folder / "7" / "truncated.png").write_bytes(png(seven)[:90])
    (folder / "0" / "blank.png").write_bytes(png(np.full((24, 24), 9, np.uint8)))
    (folder / "0" / "empty.png").write_bytes(b"")
    (folder / "0" / "text.jpg").write_text("not an image")
    (folder / "0" / "bomb.png").write_bytes(bomb())
    return folder


FAULTS = {
    "exact_duplicate/7/copy.png",
    "label_conflict/8/conflict.png",
    "near_duplicate/7/near.png",
    "unreadable/7/truncated.png",
    "blank/0/blank.png",
    "unreadable/0/empty.png",
    "unreadable/0/text.jpg",
    "bomb/0/bomb.png",
}


def content(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def pixels(source: ImageSource) -> np.ndarray:
    return np.stack([source.load(index) for index in range(len(source))])


def test_clean_removes_exactly_the_faults_into_the_quarantine(messy: Path, tmp_path: Path) -> None:
    before = content(messy)
    out = tmp_path / "clean"
    result = prepare_images(open_source(str(messy)), out, clean=True, labels=False)
    assert result.written == 60
    assert result.removed == {
        "unreadable": 3,
        "bomb": 1,
        "blank": 1,
        "exact_duplicate": 1,
        "label_conflict": 1,
        "near_duplicate": 1,
    }
    assert set(content(out)) == set(before) - {fault.partition("/")[2] for fault in FAULTS}
    assert result.quarantine == tmp_path / "clean-quarantine"
    quarantined = content(result.quarantine)
    assert set(quarantined) == FAULTS | {"findings.json"}
    assert all(quarantined[fault] == before[fault.partition("/")[2]] for fault in FAULTS)
    assert content(messy) == before, "the source is untouched"


def test_the_findings_beside_the_quarantine_say_why(messy: Path, tmp_path: Path) -> None:
    result = prepare_images(open_source(str(messy)), tmp_path / "clean", clean=True, labels=False)
    assert result.quarantine is not None
    records = json.loads((result.quarantine / "findings.json").read_text())
    assert {record["file"] for record in records} == FAULTS
    conflict = next(record for record in records if record["kind"] == "label_conflict")
    assert conflict["name"] == "8/conflict.png"
    assert conflict["related"].startswith("7/")
    assert json.loads(json.dumps(result.plain())) == result.plain()


def test_without_clean_only_unreadable_images_are_left_out_and_named(messy: Path, tmp_path: Path) -> None:
    result = prepare_images(open_source(str(messy)), tmp_path / "out")
    assert result.written == 64
    assert set(result.unreadable) == {"0/bomb.png", "0/empty.png", "0/text.jpg", "7/truncated.png"}
    assert result.unreadable["0/empty.png"] == "the file is empty"
    assert not (tmp_path / "out-quarantine").exists()


@pytest.mark.parametrize("labels", [True, False])
def test_clean_removes_exactly_what_the_check_says_to_remove(messy: Path, tmp_path: Path, labels: bool) -> None:
    digits = open_source("digits")
    digits.labels[5], digits.labels[9] = "0", "1"
    for source in (digits, open_source(str(messy))):
        report = check_images(source)
        said = {finding.index for finding in report.findings if finding.remove}
        if not labels:
            said -= {finding.index for finding in report.findings if finding.kind == "label_issue"}
        result = prepare_images(source, tmp_path / str(len(source)), clean=True, labels=labels)
        assert result.written == len(source) - len(said)
        removed = json.loads((result.quarantine / "findings.json").read_text()) if result.quarantine else []
        assert {record["index"] for record in removed} == said


def test_clean_takes_wrong_labels_out_only_with_labels(tmp_path: Path) -> None:
    digits = open_source("digits")
    digits.labels[5], digits.labels[9] = "0", "1"
    with_labels = prepare_images(digits, tmp_path / "a.npz", clean=True, format="npz")
    without = prepare_images(digits, tmp_path / "b.npz", clean=True, labels=False, format="npz")
    assert with_labels.removed.get("label_issue", 0) >= 1
    assert without.removed == {}
    records = json.loads((tmp_path / "a.npz-quarantine" / "findings.json").read_text())
    assert {(5, "5"), (9, "9")} & {(record["index"], record["suggestion"]) for record in records}
    assert (tmp_path / "a.npz-quarantine" / records[0]["file"]).is_file()


@pytest.mark.parametrize("format", ["folder", "npz", "shards"])
def test_every_format_reads_back_with_the_same_pixels_and_labels(tmp_path: Path, format: str) -> None:
    digits = open_source("digits")
    out = tmp_path / ("digits.npz" if format == "npz" else "digits")
    prepare_images(digits, out, format=format)  # type: ignore[arg-type]
    again = open_source(str(out))
    # A folder lists its images by class: sorted by label, and by number within each.
    order = np.argsort(digits.labels, kind="stable") if format == "folder" else np.arange(len(digits))
    assert again.labels == [digits.labels[index] for index in order]
    assert np.array_equal(pixels(again), pixels(digits)[order])


def test_an_npz_holds_numbers_and_the_names_of_classes(messy: Path, tmp_path: Path) -> None:
    (messy / "0").rename(messy / "zero")
    prepare_images(open_source(str(messy)), tmp_path / "x.npz", format="npz", size=(8, 12), channels=3)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["images"].shape == (64, 8, 12, 3)
        assert arrays["images"].dtype == np.uint8
        assert arrays["classes"].tolist() == [*map(str, range(1, 10)), "zero"]
        assert arrays["classes"][arrays["labels"][-1]] == "zero"


def test_an_npz_reads_back_with_the_names_of_its_classes(tmp_path: Path) -> None:
    for value, name in enumerate(["cats/a.png", "cats/b.png", "dogs/a.png"]):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(png(np.full((8, 8), value, np.uint8)))
    prepare_images(open_source(str(tmp_path / "photos")), tmp_path / "photos.npz", format="npz")
    again = open_source(str(tmp_path / "photos.npz"))
    assert again.labels == ["cats", "cats", "dogs"]
    assert pixels(again)[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_images_of_different_sizes_need_a_size_for_arrays(messy: Path, tmp_path: Path) -> None:
    (messy / "0" / "big.png").write_bytes(png(np.eye(50, dtype=np.uint8) * 255))
    for out, format in ((tmp_path / "x.npz", "npz"), (tmp_path / "x", "shards")):
        with pytest.raises(UserError, match="different sizes: give a size"):
            prepare_images(open_source(str(messy)), out, format=format)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["messy"], "nothing half-written stays behind"


@pytest.mark.parametrize("format", ["folder", "npz", "shards"])
def test_an_existing_output_is_refused(messy: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "there.npz"
    out.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        prepare_images(open_source(str(messy)), out, format=format)  # type: ignore[arg-type]
    assert out.read_text() == "precious"


def test_an_existing_quarantine_is_refused_before_any_work(messy: Path, tmp_path: Path) -> None:
    (tmp_path / "out-quarantine").mkdir()
    (tmp_path / "out-quarantine" / "old.png").touch()
    with pytest.raises(UserError, match="out-quarantine: exists already"):
        prepare_images(open_source(str(messy)), tmp_path / "out", clean=True)


def test_an_output_inside_the_source_is_refused(messy: Path) -> None:
    with pytest.raises(UserError, match="inside the data"):
        prepare_images(open_source(str(messy)), messy / "clean")


def test_a_source_without_a_readable_image_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").touch()
    for clean in (False, True):
        with pytest.raises(UserError, match="no image is left to write"):
            prepare_images(open_source(str(tmp_path / "bad")), tmp_path / "out", clean=clean)
    assert [file.name for file in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "zip"}, "there is no format 'zip'"),
        ({"fit": "croop"}, "did you mean 'crop'"),
        ({"size": 0}, "at least 1 pixel"),
        ({"channels": 5}, "channels 5"),
        ({"format": "npz"}, "name it out.npz"),
    ],
)
def test_impossible_settings_are_one_line_errors(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_images(open_source("digits"), tmp_path / "out", **settings)  # type: ignore[arg-type]


def test_progress_counts_both_passes_of_cleaning(messy: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    prepare_images(open_source(str(messy)), tmp_path / "out", clean=True, progress=lambda *step: steps.append(step))
    assert steps[-1] == (136, 136)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_shards_of_bounded_size_read_like_one_array(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
    write_shards(tmp_path, images, list("abcabcabca"), "test", shard_bytes=4 * images[0].nbytes)
    source = open_shards("here", tmp_path)
    assert len(list(tmp_path.glob("images-*.npy"))) == 3
    assert np.array_equal(pixels(source), images)
    assert np.array_equal(pixels(pickle.loads(pickle.dumps(source))), images)
    assert "".join(source.labels) == "abcabcabca"


def test_shards_have_a_fingerprint_of_their_content(tmp_path: Path) -> None:
    images = np.zeros((4, 2, 2, 1), np.uint8)
    prints = []
    for name, change in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        write_shards(tmp_path / name, images + np.uint8(change), [], "test")
        prints.append(open_shards(name, tmp_path / name).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_damaged_shards_are_one_line_errors(tmp_path: Path) -> None:
    write_shards(tmp_path, np.zeros((4, 2, 2, 1), np.uint8), [], "test")
    manifest = (tmp_path / "shards.json").read_text()
    (tmp_path / "shards.json").write_text(manifest.replace("images-00000.npy", "../outside.npy"))
    with pytest.raises(UserError, match="damaged"):
        open_shards("here", tmp_path)
    (tmp_path / "shards.json").write_text(manifest[:50])
    with pytest.raises(UserError, match="damaged"):
        open_shards("here", tmp_path)
    (tmp_path / "shards.json").write_text(manifest)
    (tmp_path / "images-00000.npy").unlink()
    with pytest.raises(UserError, match=r"images-00000\.npy is missing"):
        open_shards("here", tmp_path)


class Named(ImageSource):
    """Only names and labels."""

    name = "named"

    def __init__(self, names: list[str], labels: list[str]) -> None:
        self.names, self.labels = names, labels

    def load(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("names", "labels", "stems"),
    [
        (["cats/1.png", "dogs/1.png"], ["cats", "dogs"], ["cats/1", "dogs/1"]),
        (["a.png", "a.jpg", "A.PNG"], [], ["a", "a-2", "A-3"]),
        (["x.zip:pets/cats/1.png", "x.zip:pets/dogs/2.tar.png"], ["cats", "dogs"], ["cats/1", "dogs/2.tar"]),
        (["d.npz[0]", "d.npz[12]"], ["a/b", "a:b"], ["a_b/000000", "a_b-2/000012"]),
        (["../../etc/x.png", "/etc/y.png"], [], ["etc/x", "etc/y"]),
        (["one/1.png", "two/1.png"], [], ["one-1", "two-1"]),
        ([".hidden/..png", "b?.png"], [], ["hidden/_", "b_"]),
    ],
)
def test_names_become_safe_and_distinct_paths(names: list[str], labels: list[str], stems: list[str]) -> None:
    assert list(file_stems(Named(names, labels), range(len(names))).values()) == stems
