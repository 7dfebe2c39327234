"""Every kind of source gives its count, names, labels and pixels; what cannot be opened says what to do."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring.data.labels import sort_classes
from sparring.data.source import BrokenSample, ImageSource
from sparring.data.sources import open_source
from sparring.errors import UserError


def pixels(value: int) -> np.ndarray:
    """A grey image (4, 6) that can be told from others."""
    return np.full((4, 6), value, np.uint8)


def png(value: int) -> bytes:
    """The same as a file."""
    stream = io.BytesIO()
    Image.fromarray(pixels(value)).save(stream, "PNG")
    return stream.getvalue()


FILES = {"cat/a.png": 10, "cat/deep/b.png": 20, "dog/a.png": 30}


def write(root: Path, files: dict[str, int]) -> Path:
    """A folder of PNG files."""
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(value))
    return root


def content(source: ImageSource) -> list[tuple[str, str, int]]:
    """(end of the name, label, pixel) of each image."""
    labels = source.labels or [""] * len(source)
    return [
        (name.rpartition(":")[2], label, int(source.load(index)[0, 0, 0]))
        for index, (name, label) in enumerate(zip(source.names, labels, strict=True))
    ]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two class folders, with what is no image beside them."""
    root = write(tmp_path / "photos", FILES)
    (root / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_bytes(png(99))
    write(root, {".thumbnails/x.png": 98})
    return root


def test_digits_are_there_without_any_file() -> None:
    digits = open_source("digits")
    assert len(digits) == len(digits.labels) == 1797
    assert digits.load(0).shape == (8, 8, 1)
    assert max(digits.load(index).max() for index in range(20)) == 255
    assert sort_classes(digits.labels) == [str(number) for number in range(10)]


def test_folders_are_classes_when_every_image_lies_in_one(photos: Path) -> None:
    source = open_source(str(photos))
    assert content(source) == [("cat/a.png", "cat", 10), ("cat/deep/b.png", "cat", 20), ("dog/a.png", "dog", 30)]
    assert source.path(0) == photos / "cat/a.png"


@pytest.mark.parametrize("files", [{**FILES, "top.png": 1}, {"only/a.png": 1, "only/b.png": 2}])
def test_other_folders_are_not_classes(tmp_path: Path, files: dict[str, int]) -> None:
    assert open_source(str(write(tmp_path, files))).labels == []


def test_links_in_a_circle_are_harmless(photos: Path) -> None:
    (photos / "cat" / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "dog" / "gone.png").symlink_to(photos / "nowhere.png")
    source = open_source(str(photos))
    assert len(source) == 4
    with pytest.raises(BrokenSample, match="No such file"):
        source.load(source.names.index("dog/gone.png"))


def test_the_fingerprint_changes_with_the_content_alone(photos: Path) -> None:
    before = open_source(str(photos)).fingerprint()
    assert open_source(str(photos)).fingerprint() == before
    os.utime(photos / "cat/a.png", (1, 1))
    assert open_source(str(photos)).fingerprint() != before


def pack_zip(file: Path, files: dict[str, int]) -> None:
    """A zip archive of PNG files."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in files.items():
            archive.writestr(name, png(value))


def pack_tar(file: Path, files: dict[str, int]) -> None:
    """A tar archive of PNG files, compressed as its name says."""
    compression = file.suffix.lstrip(".")
    mode = f"w:{compression if compression in ('gz', 'bz2', 'xz') else ''}"
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(png(value))
            archive.addfile(info, io.BytesIO(png(value)))


ARCHIVES: list[tuple[str, Callable[[Path, dict[str, int]], None]]] = [
    ("photos.zip", pack_zip),
    *((f"photos.tar{end}", pack_tar) for end in ("", ".gz", ".bz2", ".xz")),
]


@pytest.mark.parametrize(("name", "pack"), ARCHIVES, ids=[name for name, _ in ARCHIVES])
def test_archives_are_read_like_folders(
    tmp_path: Path, name: str, pack: Callable[[Path, dict[str, int]], None]
) -> None:
    pack(tmp_path / name, {**FILES, "__MACOSX/cat/._a.png": 1, "notes.txt": 2})
    source = open_source(str(tmp_path / name))
    expected = [("cat/a.png", "cat", 10), ("cat/deep/b.png", "cat", 20), ("dog/a.png", "dog", 30)]
    assert content(source) == expected
    assert content(source)[::-1] == expected[::-1]
    assert content(pickle.loads(pickle.dumps(source))) == expected


@pytest.mark.parametrize(("name", "pack"), ARCHIVES[:2], ids=["zip", "tar"])
def test_a_single_folder_around_everything_is_passed_over(
    tmp_path: Path, name: str, pack: Callable[[Path, dict[str, int]], None]
) -> None:
    pack(tmp_path / name, {f"photos-main/{file}": value for file, value in FILES.items()})
    assert open_source(str(tmp_path / name)).labels == ["cat", "cat", "dog"]


@pytest.mark.parametrize(("name", "pack"), ARCHIVES[:2], ids=["zip", "tar"])
def test_names_that_point_outside_an_archive_are_harmless(
    tmp_path: Path, name: str, pack: Callable[[Path, dict[str, int]], None]
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    pack(inner / name, {"../../evil.png": 1, "/etc/evil.png": 2, "..\\evil2.png": 3})
    source = open_source(str(inner / name))
    assert sorted(value for _, _, value in content(source)) == [1, 2, 3]
    assert not any(".." in image for image in source.names)
    assert [path.name for path in tmp_path.rglob("*")].count("evil.png") == 0


def test_a_folder_inside_an_archive_can_be_chosen(tmp_path: Path) -> None:
    pack_zip(tmp_path / "a.zip", {"train/cat/a.png": 1, "train/dog/b.png": 2, "test/cat/c.png": 3})
    source = open_source(f"{tmp_path}/a.zip:train")
    assert content(source) == [("train/cat/a.png", "cat", 1), ("train/dog/b.png", "dog", 2)]
    with pytest.raises(UserError, match=r"parts test, train: choose one, e\.g\. .*a\.zip:train"):
        _ = open_source(f"{tmp_path}/a.zip").labels


def test_a_damaged_member_is_a_broken_image(tmp_path: Path) -> None:
    pack_zip(tmp_path / "a.zip", {"a.png": 1, "b.png": 2})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60] ^= 255  # inside the first file: its checksum no longer holds
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(str(tmp_path / "a.zip"))
    with pytest.raises(BrokenSample, match="archive"):
        source.load(0)
    assert source.load(1)[0, 0, 0] == 2


def write_idx(file: Path, values: np.ndarray) -> None:
    """An IDX file of bytes, compressed if its name says so."""
    head = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    (gzip.open if file.suffix == ".gz" else open)(file, "wb").write(head + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_idx_files_find_their_labels(tmp_path: Path, end: str, as_folder: bool) -> None:
    for part, values in (("t10k", [7]), ("train", [1, 2])):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{end}", np.stack([pixels(value) for value in values]))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{end}", np.array(values) + 1)
    reference = tmp_path if as_folder else tmp_path / f"train-images-idx3-ubyte{end}"
    assert [row[1:] for row in content(open_source(str(reference)))] == [("2", 1), ("3", 2)]
    assert [row[1:] for row in content(open_source(f"{tmp_path}/t10k-images-idx3-ubyte{end}"))] == [("8", 7)]


def test_a_truncated_idx_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train-images-idx3-ubyte"
    write_idx(file, np.stack([pixels(1), pixels(2)]))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged IDX"):
        open_source(str(file))


STACK = np.stack([pixels(value) for value in (0, 128, 255)])


@pytest.mark.parametrize(
    "array",
    [
        STACK,
        STACK[..., None],
        STACK[:, None],
        STACK.astype(np.int64),
        (STACK / 255).astype(np.float32),
        STACK / 127.5 - 1,
    ],
    ids=["NHW", "NHWC", "NCHW", "int64", "0..1", "-1..1"],
)
@pytest.mark.parametrize("end", ["npy", "npz"])
def test_arrays_of_every_layout_give_the_same_pixels(tmp_path: Path, array: np.ndarray, end: str) -> None:
    file = tmp_path / f"a.{end}"
    if end == "npy":
        np.save(file, array)
    else:
        np.savez(file, images=array, labels=np.array([[2], [1], [2]]))
    source = open_source(str(file))
    assert [source.load(index)[0, 0, 0] for index in range(3)] == [0, 128, 255]
    assert source.load(0).shape == (4, 6, 1)
    assert source.labels == ([] if end == "npy" else ["2", "1", "2"])


@pytest.mark.parametrize("keys", [("train_images", "train_labels"), ("x_train", "y_train"), ("data", "y"), ("X", "Y")])
def test_npz_arrays_are_found_by_their_usual_names(tmp_path: Path, keys: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **{keys[0]: STACK, keys[1]: np.eye(3)})  # type: ignore[arg-type]
    assert open_source(f"{tmp_path}/a.npz").labels == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([1, 0, 1], ["cats", "dogs"]),
        ([1.0, 0.0, 1.0], ["cats", "dogs", "never seen"]),
        ([[0, 1], [1, 0], [0, 1]], [b"cats", b"dogs"]),
        ([True, False, True], ["cats", "dogs"]),
        (["dogs", "cats", "dogs"], ["of no use", "to texts"]),
    ],
    ids=["numbers", "whole floats", "one-hot", "booleans", "texts"],
)
def test_the_classes_of_an_npz_name_its_labels(tmp_path: Path, labels: list[object], classes: list[object]) -> None:
    np.savez(tmp_path / "a.npz", images=STACK, labels=np.array(labels), classes=np.array(classes))
    assert open_source(f"{tmp_path}/a.npz").labels == ["dogs", "cats", "dogs"]


def test_classes_that_are_numbers_name_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=STACK, labels=np.array([3, 5, 3]), classes=np.array([3, 5]))
    assert open_source(f"{tmp_path}/a.npz").labels == ["3", "5", "3"]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1, 2], ["cats", "dogs"], "labels from 0 to 2 do not number the 2 names in `classes`"),
        ([0, -1, 1], ["cats", "dogs"], "labels from -1 to 1 .* from 0 to 1$"),
        ([0.5, 1, 1], ["cats", "dogs"], "labels of float64 do not number the names in `classes`: .* whole numbers"),
        ([0, np.nan, 1], ["cats", "dogs"], "whole numbers"),
        ([0, 1, 1], ["cats", "cats"], "names each class once"),
        ([0, 1, 1], [["cats", "dogs"]], r"`classes` \(1, 2\)"),
        ([0, 0, 0], "cats", r"`classes` \(\) is not a list"),
        ([0, 1], ["cats", "dogs"], "one for each"),
    ],
)
def test_labels_that_have_no_name_in_classes_are_refused(
    tmp_path: Path, labels: list[float], classes: object, message: str
) -> None:
    np.savez(tmp_path / "a.npz", images=STACK, labels=np.array(labels), classes=np.array(classes))
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"{tmp_path}/a.npz")
    assert "\n" not in str(caught.value)


def test_a_float_image_that_is_not_finite_is_broken(tmp_path: Path) -> None:
    values = STACK / 255
    values[1, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", values)
    source = open_source(f"{tmp_path}/a.npy")
    assert source.load(2).max() == 255
    with pytest.raises(BrokenSample):
        source.load(1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (STACK.astype(np.float32), "no rule"),
        (STACK.astype(np.uint16) * 200, "no rule"),
        (np.zeros((3, 5, 5, 7), np.uint8), "shape"),
        (np.zeros((3, 16), np.uint8), "shape"),
        (np.array(["a"]), "shape"),
        (np.array([{}, {}]), "objects"),
        (np.zeros((0, 4, 4), np.uint8), "no images"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        open_source(f"{tmp_path}/a.npy")


@pytest.mark.parametrize("end", ["csv", "tsv", "json", "jsonl"])
def test_tables_of_paths_and_labels(photos: Path, end: str) -> None:
    rows = [{"file_name": "dog/a.png", "label": "3"}, {"file_name": "cat/a.png", "label": "1"}]
    file = photos / f"list.{end}"
    if end in ("csv", "tsv"):
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["file_name", "label"], delimiter="," if end == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text(json.dumps(rows) if end == "json" else "\n".join(json.dumps(row) for row in rows))
    assert content(open_source(str(file))) == [("dog/a.png", "3", 30), ("cat/a.png", "1", 10)]


def test_a_table_needs_no_header(photos: Path) -> None:
    (photos / "list.csv").write_text("cat/a.png,5\ndog/a.png,6\n")
    assert open_source(f"{photos}/list.csv").labels == ["5", "6"]


def test_a_missing_file_of_a_table_is_broken_and_nothing_more(photos: Path) -> None:
    (photos / "list.csv").write_text("path,label\ncat/a.png,5\nno.png,6\n")
    source = open_source(f"{photos}/list.csv")
    assert source.load(0)[0, 0, 0] == 10
    with pytest.raises(BrokenSample):
        source.load(1)


def test_a_labels_file_replaces_class_folders(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\ncat/a.png,x\nb.png,y\ndog/a.png,z\n")
    assert open_source(str(photos), labels_file=f"{tmp_path}/labels.csv").labels == ["x", "y", "z"]


def test_an_image_without_a_label_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\ncat/a.png,x\n")
    with pytest.raises(UserError, match=r"no label for 2 of 3 images \(cat/deep/b\.png"):
        open_source(str(photos), labels_file=f"{tmp_path}/labels.csv")


@pytest.fixture
def hub_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of `datasets` of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")


@pytest.mark.usefixtures("hub_home")
def test_a_parquet_file_gives_images_and_label_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"id": datasets.Value("int64"), "img": datasets.Image(), "label": None})
    features["label"] = datasets.ClassLabel(names=["cat", "dog"])
    rows = {"id": [1, 2], "img": [{"bytes": png(10), "path": None}, {"bytes": png(20), "path": None}], "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    for reference in (f"{tmp_path}/a.parquet", f"hf:{tmp_path}/a.parquet"):
        source = open_source(reference)
        assert [row[1:] for row in content(source)] == [("dog", 10), ("cat", 20)]
        assert source.raw(0) == png(10)


@pytest.mark.usefixtures("hub_home")
def test_plain_columns_of_bytes_are_images_too(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"picture": [png(1), b"no image"], "y": ["a", "b"]})
    (tmp_path / "parts").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "parts" / "train-00000.parquet")
    source = open_source(f"hf:{tmp_path}/parts")
    assert source.labels == ["a", "b"]
    assert source.load(0)[0, 0, 0] == 1
    with pytest.raises(BrokenSample):
        source.load(1)


@pytest.mark.usefixtures("hub_home")
def test_an_imagefolder_opens_through_datasets(tmp_path: Path) -> None:
    source = open_source(f"hf:{write(tmp_path / 'photos', {'cat/a.png': 10, 'dog/b.png': 20})}")
    assert {(label, value) for _, label, value in content(source)} == {("cat", 10), ("dog", 20)}


def test_a_missing_datasets_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"sparring\[hf\]"):
        open_source("hf:mnist")


def test_a_wrong_path_hints_at_the_nearest_name(photos: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'photos'"):
        open_source(str(photos.with_name("photo")))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"hello"),
        ("a.zip", b"PK no"),
        ("a.tar.gz", b"\x1f\x8bxx"),
        ("a.npz", b"PK"),
        ("a.json", b"{"),
        ("a.csv", b""),
    ],
)
def test_files_that_are_nothing_we_know_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        _ = open_source(f"{tmp_path}/{name}").names
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no images \(looked for \.png \.jpg"):
        open_source(str(tmp_path))


def test_a_folder_of_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"parts test, train: choose one, e\.g\. .*/train"):
        open_source(str(write(tmp_path, {"train/a.png": 1, "test/b.png": 2})))


def test_mnist_opens(shared_data: Path) -> None:
    source = open_source(str(shared_data / "mnist"))
    assert len(source) == 60000
    assert source.labels[:5] == ["5", "0", "4", "1", "9"]
    assert source.load(0).shape == (28, 28, 1)
