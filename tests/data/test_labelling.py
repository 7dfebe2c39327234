"""Labels are classes, attributes, values or shares of classes; what is not used is named, never dropped in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparring.core.labels import Labels
from sparring.data.check import check_images
from sparring.data.prepare import prepare_images
from sparring.data.sources import open_source
from sparring.domains.image.data import ImageData, ImageOptions, open_images
from sparring.errors import UserError

torch.set_num_threads(1)

COUNT = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def table(folder: Path, header: str, rows: list[str]) -> str:
    lines = [f"path,{header}", *(f"{number}.png,{row}" for number, row in enumerate(rows))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def opened(source: str, folder: Path, **options: Any) -> ImageData:
    data = open_images(ImageOptions(source=source, cache=str(folder / "cache"), **options))
    assert isinstance(data, ImageData)
    return data


def labels_of(data: ImageData) -> list[Any]:
    return data.batch(torch.arange(len(data)))["label"].tolist()


@pytest.mark.parametrize("no", ["0", "-1"])
def test_several_columns_of_answers_are_attributes(folder: Path, no: str) -> None:
    data = opened(table(folder, "hat,scarf", [f"1,{no}", f"{no},{no}", "1,1", f"{no},1"]), folder)
    assert data.spec.classes == ("hat", "scarf") and data.spec.extra["label_kind"] == "attributes"
    assert labels_of(data) == [[1, 0], [0, 0], [1, 1], [0, 1]]


def test_a_cell_with_several_names_is_attributes(folder: Path) -> None:
    data = opened(table(folder, "label", ["hat;scarf", "hat", ";", "scarf;"]), folder)
    assert data.spec.classes == ("hat", "scarf") and data.spec.extra["label_kind"] == "attributes"
    assert labels_of(data) == [[1, 1], [1, 0], [0, 0], [0, 1]]


def test_values_have_mean_0_and_variance_1_and_their_units_are_remembered(folder: Path) -> None:
    source = table(folder, "age,height", ["10,1.5", "20,1.5", "30,1.5", "40,1.5"])
    data = opened(source, folder, labels="values")
    label = torch.tensor(labels_of(data))
    assert label[:, 0].mean().abs() < 1e-6 and label[:, 0].std(correction=0) == pytest.approx(1)
    assert (label[:, 1] == 0).all(), "a constant column carries nothing"
    labels = Labels.of(data.spec)
    assert labels is not None
    assert (labels.low, labels.high) == ((10.0, 1.5), (40.0, 1.5))
    assert torch.allclose(labels.units(label)[:, 0], torch.tensor([10.0, 20, 30, 40]))
    assert torch.allclose(labels.ask("age=20,height=1.5"), label[1])


def test_fractions_are_values_and_whole_numbers_are_classes(folder: Path) -> None:
    fractions = opened(table(folder, "label", ["0.5", "1", "1.5", "2"]), folder)
    assert fractions.spec.extra["label_kind"] == "values"
    whole = opened(table(folder, "label", ["1", "1", "2", "2.0"]), folder)
    assert whole.spec.classes == ("1", "2", "2.0") and "label_kind" not in whole.spec.extra


def test_asked_for_values_whole_numbers_are_values(folder: Path) -> None:
    data = opened(table(folder, "label", ["1", "1", "2", "4"]), folder, labels="values")
    assert data.spec.classes == ("label",) and data.spec.extra["label_high"] == [4.0]


def test_numbers_beside_the_paths_are_named_and_not_taken_unasked(folder: Path) -> None:
    source = table(folder, "age,height", ["1,1.5", "2,1", "3,1", "4,2"])
    data = opened(source, folder)
    assert not data.spec.classes
    assert "age, height" in data.spec.extra["label_note"] and "data.labels=values" in data.spec.extra["label_note"]


def test_one_column_is_chosen_by_name(folder: Path) -> None:
    source = table(folder, "label,kind", ["1,a", "2,b", "3,a", "4,b"])
    data = opened(source, folder, label_columns=["kind"])
    assert data.spec.classes == ("a", "b")
    with pytest.raises(UserError, match=r"no column 'knd' \(did you mean 'kind'\?\)"):
        opened(source, folder, label_columns=["knd"])


def test_labels_can_be_left_aside(folder: Path) -> None:
    data = opened(table(folder, "label", ["a", "b", "a", ""]), folder, labels="none")
    assert not data.spec.classes and "label" not in data.batch(torch.arange(2))


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        ("label", ["a", "b", "", "a"], {}, "row 3 has no label; .*data.labels=none"),
        ("hat,scarf", ["1,0", "2,0", "1,1", "0,1"], {"labels": "attributes"}, "attributes are 0 or 1"),
        ("age,height", ["1,2", "x,1", "1,1", "2,1"], {"labels": "values"}, "row 2 of column 'age' is 'x'"),
        ("age,height", ["1,2", "1,", "1,1", "2,1"], {"labels": "values"}, "row 2 has no height"),
        ("hat,scarf", ["1,0", "0,0", "1,1", "0,1"], {"labels": "classes"}, "classes are one column"),
        ("hat,scarf", ["1,0", "0,0", "1,1", "0,1"], {"classes": ["hat"]}, "labels are attributes, not classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    folder: Path, header: str, rows: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        opened(table(folder, header, rows), folder, **options)
    assert "\n" not in str(caught.value)


def test_a_table_labels_files_of_a_folder_and_members_of_an_archive(folder: Path) -> None:
    import zipfile

    source = table(folder, "hat,scarf", ["1,0", "0,0", "1,1", "0,1"])
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for number in range(COUNT):
            archive.write(folder / f"{number}.png", f"{number}.png")
    for reference in (str(folder), str(folder / "a.zip")):
        data = opened(reference, folder, labels_file=source)
        assert labels_of(data) == [[1, 0], [0, 0], [1, 1], [0, 1]], reference
    assert opened(
        str(folder / "a.zip"), folder, labels_file=source, label_columns=["hat"], labels="classes"
    ).spec.classes


def test_images_beside_class_folders_are_named(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / f"{name}/1.png").write_bytes((folder / "1.png").read_bytes())
    note = open_source(str(folder)).note
    assert note.startswith("4 of 6 images lie in no sub-folder (0.png, …)")


@pytest.mark.parametrize(
    ("labels", "kind", "expected"),
    [
        ([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], "attributes", [1, 1, 0]),
        ([[0.5, 0.5, 0], [0, 1, 0], [0.1, 0.2, 0.7], [1, 0, 0]], "soft", [0.5, 0.5, 0]),
        ([[5.0, 1, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0]], "values", [(5 - 2) / 3.5**0.5, 0, 0]),
        ([0.5, 1, 1, 1], "values", [-(3**0.5)]),
    ],
)
def test_arrays_of_numbers_are_attributes_shares_or_values(
    tmp_path: Path, labels: list[Any], kind: str, expected: list[float]
) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 5, 5), np.uint8), labels=np.array(labels))
    data = opened(str(tmp_path / "a.npz"), tmp_path)
    assert data.spec.extra["label_kind"] == kind
    assert labels_of(data)[0] == pytest.approx(expected, abs=1e-5)


def test_a_run_remembers_few_rows_of_a_large_set_and_all_of_its_statistics(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (5000, 2))
    rows[0] = 1
    np.savez(tmp_path / "a.npz", images=np.zeros((5000, 2, 2), np.uint8), labels=rows)
    data = opened(str(tmp_path / "a.npz"), tmp_path)
    assert len(data.spec.extra["label_rows"]) == 4096
    assert data.spec.extra["label_mean"] == pytest.approx(rows.mean(0).tolist())


def test_check_reports_attributes_and_says_why_labels_were_not_checked(folder: Path) -> None:
    report = check_images(open_source(table(folder, "hat,scarf", ["1,0", "0,0", "1,1", "1,1"])))
    assert report.summary["label_means"] == {"hat": 0.75, "scarf": 0.5}
    assert "not classes" in report.skipped["labels"]


@pytest.mark.parametrize("form", ["folder", "npz"])
def test_prepared_data_keeps_attributes(folder: Path, form: str) -> None:
    source = table(folder, "hat,scarf", ["1,0", "0,0", "1,1", "0,1"])
    out = folder / ("prepared.npz" if form == "npz" else "prepared")
    prepare_images(open_source(source), out, format=form)  # type: ignore[arg-type]
    data = opened(str(out if form == "npz" else out / "labels.csv"), folder)
    assert data.spec.classes == ("hat", "scarf") and labels_of(data) == [[1, 0], [0, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("form", ["tar", "shards"])
def test_formats_that_hold_classes_alone_refuse_attributes(folder: Path, form: str) -> None:
    source = table(folder, "hat,scarf", ["1,0", "0,0", "1,1", "0,1"])
    with pytest.raises(UserError, match="hold classes, and the labels are attributes"):
        prepare_images(open_source(source), folder / "out", format=form)  # type: ignore[arg-type]
