"""From what a user has to the sides of a translation."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring.data.source import BrokenSample
from sparring.domains.translation.layouts import ORDERS, Sides, open_sides
from sparring.errors import UserError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A set with these images: paths, or path → (height, width)."""

    def make(*paths: str, root: str = "set", size: tuple[int, int] = (4, 4)) -> Path:
        for number, path in enumerate(paths):
            target = tmp_path / root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (size[1], size[0]), number).save(target)
        return tmp_path / root

    return make


def names(sides: Sides) -> list[tuple[str, ...]]:
    """The names of what belongs together, row by row."""
    return [
        tuple(sides.sources[role].names[rows[index]] for role, rows in sides.rows.items())
        for index in range(len(sides.rows["output"]))
    ]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_folders_of_known_names_have_their_order(make: Make, order: tuple[str, str]) -> None:
    ending = "png"
    found = open_sides(str(make(f"{order[1]}/1.{ending}", f"{order[0]}/1.{ending}", "more/1.png", "other/1.png")))
    assert found.names == order and found.paired and found.layout == "pairs"


def test_other_folders_are_taken_by_name(make: Make) -> None:
    found = open_sides(str(make("winter/1.png", "summer/1.jpg", "winter/2.png", "summer/2.jpg")))
    assert found.names == ("summer", "winter") and found.paired
    assert names(found) == [("1.jpg", "1.png"), ("2.jpg", "2.png")]


def test_sides_say_which_and_in_which_order(make: Make) -> None:
    root = make("one/1.png", "two/1.png", "three/1.png")
    assert open_sides(str(root), sides=("two", "one")).names == ("two", "one")


def test_names_below_the_sides_are_part_of_what_is_equal(make: Make) -> None:
    root = make("A/x/1.png", "A/y/1.png", "B/y/1.png", "B/x/1.png")
    assert names(open_sides(str(root))) == [("x/1.png", "x/1.png"), ("y/1.png", "y/1.png")]


def test_one_folder_around_all_of_a_side_is_passed_over(make: Make) -> None:
    root = make("A/deep/er/x/1.png", "A/deep/er/y/1.png", "B/x/1.png", "B/y/1.png")
    assert open_sides(str(root)).paired and len(open_sides(str(root)).rows["input"]) == 2


def test_images_without_a_partner_are_named_and_left_out(make: Make) -> None:
    found = open_sides(
        str(make("A/1.png", "A/2.png", "A/3.png", "B/2.png", "B/3.png", "B/4.png", "B/2.jpg")), layout="pairs"
    )
    assert names(found) == [("2.png", "2.jpg"), ("3.png", "3.png")]
    assert found.alone == ["A/1.png", "B/2.png", "B/4.png"]  # two files of one name: the first one counts


def test_sides_without_equal_names_do_not_belong_together(make: Make) -> None:
    found = open_sides(str(make("trainA/1.png", "trainA/2.png", "trainB/x.png", "testA/9.png", "testB/y.png")))
    assert not found.paired and found.layout == "sides" and found.names == ("trainA", "trainB")
    assert [len(rows) for rows in found.rows.values()] == [2, 1] and not found.alone


def test_a_few_equal_names_are_no_pairs_but_said(make: Make) -> None:
    root = make("A/1.png", "A/2.png", "B/2.png", "B/3.png")
    found = open_sides(str(root))
    assert not found.paired and "1 of their images have equal names: data.layout=pairs takes these alone" in found.hint
    assert names(open_sides(str(root), layout="pairs")) == [("2.png", "2.png")]


def test_pairs_can_be_taken_apart(make: Make) -> None:
    assert not open_sides(str(make("A/1.png", "B/1.png")), layout="sides").paired


@pytest.mark.parametrize(
    ("files", "part", "expected"),
    [
        (("trainA/1.png", "trainB/2.png", "testA/3.png", "testB/4.png"), "test", ("3.png", "4.png")),
        (("train_label/1.png", "train_img/1.jpg", "val_label/2.png", "val_img/2.jpg"), "val", ("2.png", "2.jpg")),
        (("A/train/1.png", "B/train/1.png", "A/test/2.png", "B/test/2.png"), "test", ("2.png", "2.png")),
        (("images/training/1.jpg", "annotations/training/1.png", "images/validation/2.jpg", "annotations/validation/2.png"),
         "validation", ("2.png", "2.jpg")),
        (("train/label/1.png", "train/photo/1.png", "test/label/2.png", "test/photo/2.png"), "test", ("2.png", "2.png")),
    ],
    ids=["cyclegan", "coco stuff", "sides first", "ade20k", "camvid"],
)  # fmt: skip
def test_a_part_of_a_set_is_named_as_if_it_were_a_folder(
    make: Make, files: tuple[str, ...], part: str, expected: tuple[str, str]
) -> None:
    found = open_sides(str(make(*files) / part))
    assert (found.sources["input"].names, found.sources["output"].names) == ([expected[0]], [expected[1]])


def test_masks_and_instances_of_a_part_are_found_by_their_own_word(make: Make) -> None:
    root = make(
        "val_label/1.png", "val_img/1.jpg", "val_inst/1.png", "train_inst/9.png", "train_label/9.png", "train_img/9.png"
    )
    found = open_sides(str(root / "val"), instance="inst")
    assert names(found) == [("1.png", "1.jpg", "1.png")] and list(found.rows) == ["input", "output", "instance"]


def test_sets_like_cityscapes_are_paired_by_a_pattern(make: Make) -> None:
    files = [
        f"{folder}/{part}/{city}/{city}_1_{kind}.png"
        for part in ("train", "val")
        for city in ("ulm", "bonn")
        for folder, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds"), ("gtFine", "gtFine_color"),
                             ("gtFine", "gtFine_instanceIds"))
    ]  # fmt: skip
    sides = ("gtFine/*_gtFine_labelIds", "leftImg8bit/*_leftImg8bit")
    for part in ("train", "val"):
        found = open_sides(str(make(*files) / part), sides=sides, instance="gtFine/*_gtFine_instanceIds")
        assert found.paired and names(found) == [
            tuple(f"{city}/{city}_1_{kind}.png" for kind in ("gtFine_labelIds", "leftImg8bit", "gtFine_instanceIds"))
            for city in ("bonn", "ulm")
        ]


def test_both_sides_may_lie_in_one_folder(make: Make) -> None:
    root = make("all/01L.jpg", "all/02L.jpg", "all/01L_1st.png", "all/02L_1st.png", "all/02L_2nd.png")
    found = open_sides(str(root), sides=("all/*_1st.png", "all/*.jpg"))
    assert names(found) == [("01L_1st.png", "01L.jpg"), ("02L_1st.png", "02L.jpg")]
    assert found.sources["input"].fingerprint() != found.sources["output"].fingerprint()


@pytest.mark.parametrize("around", ["", "facades/", "a/b/"])
def test_archives_hold_sides_too(tmp_path: Path, make: Make, around: str) -> None:
    root = make("label/1.png", "label/2.png", "photo/1.png", "photo/2.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"{around}{file.relative_to(root)}")
    found = open_sides(str(tmp_path / "set.zip"))
    assert found.names == ("label", "photo") and found.paired and len(found.rows["input"]) == 2
    assert int(found.sources["output"].load(1).max()) == 3
    inner = open_sides(f"{tmp_path / 'set.zip'}:{around}label")
    assert inner.layout == "single" and len(inner.sources["output"]) == 2


def test_a_folder_inside_an_archive_holds_sides(tmp_path: Path, make: Make) -> None:
    root = make("train/A/1.png", "train/B/1.png", "test/A/2.png", "test/B/2.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, str(file.relative_to(root)))
    found = open_sides(f"{tmp_path / 'set.zip'}:test")
    assert found.sources["input"].names == ["set.zip:test/A/2.png"] and found.paired
    with pytest.raises(UserError, match=r"set\.zip: holds the parts test, train: choose one, e\.g\. .*set\.zip:train"):
        open_sides(str(tmp_path / "set.zip"))


def test_joined_images_are_cut_in_the_middle(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "joined"
    root.mkdir()
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(3, 8)).save(root / "1.png")
    Image.new("L", (7, 3)).save(root / "2.png")
    found = open_sides(str(root), layout="joined")
    left, right = found.sources["input"], found.sources["output"]
    assert left.load(0)[:, :, 0].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert right.load(0)[0, :, 0].tolist() == [4, 5, 6, 7] and found.paired
    assert left.fingerprint() != right.fingerprint()
    with pytest.raises(BrokenSample, match="7 pixels wide, which has no two equal halves"):
        left.load(1)


def test_images_that_look_joined_are_not_taken_apart_but_said(make: Make) -> None:
    found = open_sides(str(make("1.png", "2.png", size=(4, 8))))
    assert found.layout == "single" and "data.layout=joined" in found.hint
    assert not open_sides(str(make("1.png", "2.png", root="square"))).hint


def test_a_table_has_a_column_for_each_role(make: Make, tmp_path: Path) -> None:
    make("maps/1.png", "maps/2.png", "x/a.png", "x/b.png", "m/1.png", "m/2.png")
    rows = [
        {"Label_Map": f"set/maps/{n}.png", "photo": f"set/x/{p}.png", "mask": f"set/m/{n}.png"}
        for n, p in ((1, "b"), (2, "a"))
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    found = open_sides(str(tmp_path / "t.json"))
    assert found.layout == "table" and found.paired
    assert names(found) == [
        ("set/maps/1.png", "set/x/b.png", "set/m/1.png"),
        ("set/maps/2.png", "set/x/a.png", "set/m/2.png"),
    ]


def test_columns_of_a_table_can_be_named(make: Make, tmp_path: Path) -> None:
    make("1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("left,right,input\nset/1.png,set/2.png,set/3.png\n")
    assert names(open_sides(str(tmp_path / "t.csv"), sides=("right", "left"))) == [("set/2.png", "set/1.png")]


def test_a_folder_of_images_is_one_side(make: Make) -> None:
    found = open_sides(str(make("1.png", "2.png")))
    assert found.layout == "single" and list(found.sources) == ["output"]
    classes = open_sides(str(make("cat/1.png", "dog/2.png", "dog/3.png", root="classes")), layout="single")
    assert classes.sources["output"].labels == ["cat", "dog", "dog"]


def test_masks_may_lie_anywhere(make: Make) -> None:
    root, masks = make("1.png", "2.png"), make("2.png", root="masks")
    found = open_sides(str(root), mask=str(masks))
    assert names(found) == [("2.png", "2.png")] and found.alone == ["B/1.png"]


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (("A/1.png", "B/2.png"), {"layout": "pairs"}, r"no image of A is named like one of B.*data\.layout=sides"),
        (("1.png",), {"layout": "pairs"}, r"found no two folders of images in it: name them with data\.sides=\[A, B\]"),
        (("A/1.png", "B/1.png"), {"sides": ("A", "C")}, r"has no folder 'C'"),
        (("photos/1.png", "B/1.png"), {"sides": ("photo", "B")}, r"has no folder 'photo' \(did you mean 'photos'\?\)"),
        (("train/A/1.png", "test/A/1.png"), {}, r"set: holds the parts test, train: choose one, e\.g\. .*set/train"),
        (("train/A/1.png", "test/A/1.png", "val/A/1.png"), {}, r"holds the parts test, train, val: choose one"),
        (("A/train/1.png", "B/train/1.png", "A/test/1.png", "B/test/1.png"), {},
         r"set: holds the parts test, train: choose one, e\.g\. .*set/train"),
        (("A/1.png", "B/1.png"), {"layout": "joined", "sides": ("A", "B")}, r"leave out data\.sides"),
        (("A/1.png", "B/1.png"), {"layout": "table"}, r"is no table \(\.csv"),
        (("A/1.png", "B/2.png"), {"instance": "A"}, r"data\.instance is for pairs or single images"),
        (("A/1.png", "B/1.png", "C/7.png"), {"sides": ("A", "B"), "mask": "C"}, r"C: none of its images is named like one of"),
        (("A/1.png", "B/1.png"), {"sides": ("A/*_x", "B")}, r"A/\*_x: none of the 1 images in it is named like that \(1\.png"),
        (("A/1.png", "B/1.png"), {"sides": ("A/*_*", "B")}, r"a pattern has one \*"),
        (("A/1.png", "B/notes.txt.png"), {"sides": ("A", "E/F")}, r"has no folder 'E/F'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_that_says_what_to_do(
    make: Make, files: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_sides(str(make(*files)), **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("input,output\nset/1.png,\n", {}, r"row 1 has no output; fill it in or remove it"),
        ("input,output\nset/1.png,set/7.png\n", {}, r"no file of its column output exists \(set/7\.png"),
        ("left,right\nset/1.png,set/1.png\n", {}, r"no column of outputs: name it output or b or target, or say data\.sides"),
        ("left,right\nset/1.png,set/1.png\n", {"sides": ("left", "rigth")}, r"no column 'rigth' \(did you mean 'right'\?\)"),
        ("left,output\nset/1.png,set/1.png\n", {"mask": "msk"}, r"no column 'msk'"),
        ("input,output\nset/1.png,set/1.png\n", {"layout": "pairs"}, r"is a table, so data\.layout=pairs does not fit"),
        ("", {}, r"expected a list of rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(
    make: Make, tmp_path: Path, table: str, options: dict[str, object], message: str
) -> None:
    make("1.png")
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(UserError, match=message) as raised:
        open_sides(str(tmp_path / "t.csv"), **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "facades").mkdir()
    with pytest.raises(UserError, match=r"no such file or folder \(did you mean 'facades'\?\)"):
        open_sides(str(tmp_path / "facade"))
