"""Annotations of instances, turned into maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from PIL import Image

import sparring
from shell import sparring as shell
from sparring.domains.translation.coco import fill_polygon, fill_runs, map_instances
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.errors import UserError

SIZE = (10, 12)


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """Column by column, outside first."""
    flat = mask.T.flatten()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two annotated photographs, one without annotations, and one that is not there; as COCO lays them out."""
    (tmp_path / "val").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (SIZE[1], SIZE[0]), (number, 0, 0)).save(tmp_path / "val" / f"{number}.jpg")
    hole = np.zeros(SIZE, bool)
    hole[2:9, 3:11] = True
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 70, "segmentation": [square(1, 1, 2)]},
        {"id": 2, "image_id": 1, "category_id": 5, "segmentation": [square(0, 0, 8), square(9, 0, 1)]},
        {
            "id": 3,
            "image_id": 2,
            "category_id": 5,
            "iscrowd": 1,
            "segmentation": {"size": list(SIZE), "counts": runs(hole)},
        },
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2, 3, 4)],
        "annotations": annotations,
        "categories": [{"id": 70, "name": "toaster"}, {"id": 5, "name": "aeroplane"}, {"id": 6, "name": "bus"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return tmp_path / "annotations" / "instances_val.json"


def test_small_instances_lie_over_large_ones_and_have_numbers_of_their_own(made: Path, tmp_path: Path) -> None:
    result = map_instances(made, tmp_path / "out")
    assert result.classes == ["background", "aeroplane", "bus", "toaster"]
    label, instance = (np.asarray(Image.open(tmp_path / "out" / side / "1.png")) for side in ("label", "instance"))
    expected = np.zeros(SIZE, int)
    expected[0:8, 0:8] = 1
    expected[0:1, 9:10] = 1
    assert np.array_equal(instance > 0, expected > 0)
    expected[1:3, 1:3] = 3
    assert np.array_equal(label, expected)
    assert np.array_equal(instance == 2, expected == 3) and set(np.unique(instance)) == {0, 1, 2}


def test_what_was_written_is_told_and_can_be_trained_on(made: Path, tmp_path: Path) -> None:
    result = map_instances(made, tmp_path / "out")
    assert (result.written, result.instances, result.empty) == (3, 3, 1)
    assert result.missing == {"4.jpg": "No such file or directory"}
    data = open_translation(TranslationOptions(source=str(tmp_path / "out"), instance="instance"))
    facts = data.spec.extra["input"]
    assert data.paired and facts["classes"] == result.classes and facts["edges"] and len(data) == 3
    # All classes have a channel, the one that appears nowhere too.
    batch = data.batch(torch.arange(3))
    assert batch["source"].shape[1] == 5 and torch.equal(batch["source"][2, 0], torch.ones(SIZE))


def test_photographs_are_copied_as_they_are(made: Path, tmp_path: Path) -> None:
    map_instances(made, tmp_path / "out")
    assert (tmp_path / "out" / "photo" / "2.jpg").read_bytes() == (tmp_path / "val" / "2.jpg").read_bytes()


@given(st.lists(st.tuples(st.floats(-3, 15), st.floats(-3, 12)), min_size=3, max_size=7))
def test_a_polygon_fills_the_pixels_whose_middle_it_holds(corners: list[tuple[float, float]]) -> None:
    filled = fill_polygon([part for corner in corners for part in corner], SIZE)
    # Against the crossings of a ray, counted one by one.
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            px, py, inside = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
                if (y1 > py) != (y2 > py) and px >= x1 + (py - y1) * ((x2 - x1) / (y2 - y1)):
                    inside = not inside
            assert filled[row, column] == inside


def test_a_convex_polygon_is_filled_as_matplotlib_sees_it() -> None:
    corners = [(1.2, 0.7), (10.4, 2.3), (8.8, 8.9), (2.1, 7.7)]
    middles = np.stack(np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5), axis=-1).reshape(-1, 2)
    expected = Outline(corners).contains_points(middles).reshape(SIZE)
    assert np.array_equal(fill_polygon([part for corner in corners for part in corner], SIZE), expected)


@given(st.integers(0, 2**31))
def test_run_lengths_are_read_back_plain_and_packed(seed: int) -> None:
    mask = np.random.default_rng(seed).random(SIZE) < 0.5
    counts = runs(mask)
    assert np.array_equal(fill_runs(counts, SIZE), mask)
    assert np.array_equal(fill_runs(packed(counts), SIZE), mask)


def packed(counts: list[int]) -> str:
    """As COCO packs run lengths: from the third on (counted from 0) differences to the last but one, five bits a character."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            code, value = value & 0x1F, value >> 5
            more = value != -1 if code & 0x10 else value != 0
            text += chr((code | 0x20 if more else code) + 48)
            if not more:
                break
    return text


def test_the_command_writes_the_maps(made: Path, tmp_path: Path) -> None:
    done = shell("data", "prepare", str(made), str(tmp_path / "out"), "--domain", "translation", "--json")
    assert done.code == 0 and json.loads(done.out)["written"] == 3
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    words = ["data", "prepare", str(made), str(tmp_path / "more"), "--domain", "translation"]
    refused = shell(*words)
    assert refused.code == 2 and "found no photographs (1.jpg)" in refused.err and "--images" in refused.err
    assert shell(*words, "--images", str(tmp_path / "elsewhere")).code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": None}, "its 'categories' are missing or incomplete"),
        ({"images": [{"id": 1}]}, "its 'images' are missing or incomplete"),
        ({"annotations": [{"image_id": 1, "category_id": 9}]}, "is of category 9, which is not listed"),
    ],
)
def test_a_file_of_another_kind_is_refused(made: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    made.write_text(json.dumps({**json.loads(made.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        map_instances(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photographs_that_do_not_fit_their_annotations_are_left_out(made: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "val" / "1.jpg")
    content = json.loads(made.read_text())
    content["annotations"][2]["segmentation"]["counts"] = [3]
    content["images"][3]["file_name"] = "../val/3.jpg"
    made.write_text(json.dumps(content))
    missing = map_instances(made, tmp_path / "out").missing
    assert missing["1.jpg"] == "is 5×5 pixels, and was annotated as 12×10"
    assert missing["2.jpg"] == "annotation 3: run lengths of 3 pixels, where there are 120"
    assert missing["../val/3.jpg"] == "its name leads out of the folder"


def test_other_sources_and_options_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepare sides one by one"):
        sparring.prepare_data(str(tmp_path), tmp_path / "out", domain="translation")
    with pytest.raises(UserError, match="size means nothing for translation data"):
        sparring.prepare_data("x.json", tmp_path / "out", domain="translation", size=4)
    with pytest.raises(UserError, match="images means nothing for image data"):
        sparring.prepare_data("digits", tmp_path / "out", images="x")
