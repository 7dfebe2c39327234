"""`data check --domain translation`: partners, maps, masks, leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sparring
from shell import sparring as shell
from sparring.errors import UserError

Write = Callable[..., Path]
RANDOM = np.random.default_rng(0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(root: str = "set", /, **folders: dict[str, NDArray[Any]]) -> Path:
        for folder, files in folders.items():
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for name, values in files.items():
                Image.fromarray(values).save(tmp_path / root / folder / f"{name}.png")
        return tmp_path / root

    return write


def photo(size: tuple[int, int] = (40, 50)) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (*size, 3), np.uint8)


def label(classes: int = 3, size: tuple[int, int] = (40, 50)) -> NDArray[np.uint8]:
    return RANDOM.integers(0, classes, size, np.uint8)


def found(report: Any, kind: str) -> list[str]:
    return [each["name"] for each in report.plain()["findings"] if each["kind"] == kind]


def test_data_without_faults_have_no_findings(write: Write) -> None:
    root = write(label={f"{i}": label() for i in range(4)}, photo={f"{i}": photo() for i in range(4)})
    report = sparring.check_data(str(root), domain="translation")
    assert report.findings == [] and report.summary["rows"] == 4 and report.summary["paired"]
    shares = report.summary["input"]["classes"]
    assert list(shares) == ["0", "1", "2"] and sum(each["pixels"] for each in shares.values()) == pytest.approx(
        1, abs=1e-5
    )


def test_the_share_of_a_class_is_that_of_its_pixels_and_of_its_maps(write: Write) -> None:
    maps = {"1": np.array([[0, 0], [0, 1]], np.uint8), "2": np.zeros((2, 2), np.uint8)}
    root = write(label=maps, photo={"1": photo((2, 2)), "2": photo((2, 2))})
    report = sparring.check_data(str(root), domain="translation", classes=["sky", "road"])
    assert report.summary["input"]["classes"] == {
        "sky": {"pixels": 0.875, "images": 1.0},
        "road": {"pixels": 0.125, "images": 0.5},
    }


def test_missing_partners_and_other_sizes_are_named(write: Write) -> None:
    root = write(
        label={"1": label(), "2": label(), "3": label()}, photo={"1": photo(), "2": photo((20, 50)), "4": photo()}
    )
    report = sparring.check_data(str(root), domain="translation", layout="pairs")
    assert found(report, "no_partner") == ["label/3.png", "photo/4.png"]
    (finding,) = [each for each in report.findings if each.kind == "partner_size"]
    assert finding.name == "label/2.png" and "is 50×40 pixels, and what belongs to it 50×20" in finding.reason


def test_maps_that_are_pictures_and_gaps_between_classes_are_found(write: Write) -> None:
    maps = {"1": np.array([[0, 1], [2, 255]], np.uint8), "2": np.arange(2000, dtype=np.uint16).reshape(40, 50)}
    root = write(label=maps, photo={"1": photo((2, 2)), "2": photo()})
    report = sparring.check_data(str(root), domain="translation")
    assert found(report, "map_values") == ["label/2.png"]
    (gap,) = [each for each in report.findings if each.kind == "class_numbers"]
    assert "holds 0, 1, 2, 255, and not 3, 4, 5" in gap.reason and "say data.void=255" in gap.reason
    calm = sparring.check_data(str(root), domain="translation", void=255)
    assert not found(calm, "class_numbers")


def test_classes_that_are_not_named_are_found(write: Write) -> None:
    root = write(label={"1": label(4)}, photo={"1": photo()})
    report = sparring.check_data(str(root), domain="translation", classes=["a", "b", "c"])
    (gap,) = [each for each in report.findings if each.kind == "class_numbers"]
    assert "holds 3, and data.classes names 0 to 2" in gap.reason


def test_masks_of_more_than_two_values_are_found(write: Write) -> None:
    soft = np.array([[0, 100], [200, 255]], np.uint8)
    hard = np.array([[0, 255], [255, 255]], np.uint8)
    root = write(
        A={"1": photo((2, 2)), "2": photo((2, 2))},
        B={"1": photo((2, 2)), "2": photo((2, 2))},
        mask={"1": soft, "2": hard},
    )
    report = sparring.check_data(str(root), domain="translation", sides=["A", "B"], mask="mask")
    assert found(report, "mask_values") == ["mask/1.png"]


def test_broken_blank_and_doubled_files_are_found(write: Write) -> None:
    same = photo()
    root = write(
        A={f"{i}": photo() for i in range(5)},
        B={"0": same, "1": same, "2": photo(), "3": np.zeros((40, 50, 3), np.uint8), "4": photo()},
    )
    (root / "A" / "2.png").write_bytes(b"no image")
    report = sparring.check_data(str(root), domain="translation")
    assert found(report, "unreadable") == ["A/2.png"] and found(report, "blank") == ["B/3.png"]
    assert found(report, "exact_duplicate") == ["B/1.png"]


def smooth(number: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((50, 40), Image.Resampling.BICUBIC))


def test_outputs_that_are_in_the_other_data_too_are_leaks(write: Write, tmp_path: Path) -> None:
    train = write("train", A={f"{i}": smooth(i) for i in range(4)}, B={f"{i}": smooth(10 + i) for i in range(4)})
    test = write("test", A={f"{i}": smooth(20 + i) for i in range(3)}, B={f"{i}": smooth(30 + i) for i in range(3)})
    # The same picture, brighter and of another size.
    brighter = np.clip(smooth(12).astype(int) + 2, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).resize((100, 80)).save(test / "B" / "1.png")
    report = sparring.check_data(str(train), domain="translation", against=str(test))
    assert found(report, "leak") == ["B/2.png"]
    (leak,) = [each for each in report.findings if each.kind == "leak"]
    assert leak.related == "1.png" and leak.index == 2


def test_leaks_are_found_between_sets_of_different_kinds_of_thumbnails(write: Write) -> None:
    tiny = RANDOM.integers(0, 256, (8, 8), np.uint8)
    train = write("train", A={"1": tiny}, B={"1": tiny})
    test = write("test", A={"1": tiny}, B={"1": np.repeat(np.repeat(np.repeat(tiny[:, :, None], 3, 2), 8, 0), 8, 1)})
    report = sparring.check_data(str(train), domain="translation", against=str(test))
    assert not [each for each in report.findings if each.kind == "unreadable"]


def test_unpaired_sides_need_no_partners(write: Write) -> None:
    root = write(trainA={"1": photo(), "2": photo((7, 9))}, trainB={"x": photo((30, 30))})
    report = sparring.check_data(str(root), domain="translation")
    assert not found(report, "no_partner") and not found(report, "partner_size") and not report.summary["paired"]


def test_the_command_prints_a_table_or_json(write: Write) -> None:
    root = write(label={"1": label(), "2": label()}, photo={"1": photo(), "2": photo((20, 50))})
    done = shell("data", "check", str(root), "--domain", "translation", "--json")
    assert done.code == 0 and json.loads(done.out)["counts"] == {"partner_size": 1}
    assert "partner_size" in shell("data", "check", str(root), "--domain", "translation").out
    sided = shell("data", "check", str(root), "--domain", "translation", "--set", "data.sides=[photo, label]", "--json")
    assert json.loads(sided.out)["summary"]["rows"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "x"], "against means nothing for image data"),
        (["--domain", "translation", "--set", "train.steps=3"], "--set train: only keys of `data` mean something here"),
        (["--domain", "translation", "--set", "data.sise=3"], "unknown key 'data.sise'"),
        (["--domain", "translation", "--against", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_checked_is_one_line(write: Write, words: list[str], message: str) -> None:
    root = write(A={"1": photo()}, B={"1": photo()})
    done = shell("data", "check", str(root), *words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


def test_options_of_one_domain_mean_nothing_in_another(write: Write) -> None:
    with pytest.raises(UserError, match="sides means nothing for vector data"):
        sparring.check_data("ring", domain="vector", sides=["A", "B"])
