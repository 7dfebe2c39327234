"""Data of translations: what belongs together is cut, changed and read together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sparring.core import processes
from sparring.core.game import Batch
from sparring.domains.translation.data import (
    TranslationData,
    TranslationOptions,
    open_translation,
)
from sparring.domains.translation.label_maps import class_numbers, distinct_colours, encode_labels, instance_edges
from sparring.errors import UserError
from sparring.options import validate

torch.set_num_threads(1)

Write = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Save arrays (H, W) or (H, W, C) as the files of a set; palettes where `colours` has the folder."""

    def write(root: str = "set", colours: tuple[str, ...] = (), /, **folders: list[NDArray[Any]]) -> Path:
        for folder, images in folders.items():
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for number, values in enumerate(images):
                image = Image.fromarray(values)
                if folder in colours:
                    image = Image.fromarray(values, "P")
                    image.putpalette([9, 9, 9, 250, 0, 0, 0, 250, 0, 0, 0, 250])
                image.save(tmp_path / root / folder / f"{number}.png")
        return tmp_path / root

    return write


def pictures(count: int, height: int, width: int, *, seed: int = 0, channels: int = 3) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8))


def maps(count: int, height: int, width: int, classes: int = 3, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, classes, (count, height, width), np.uint8))


def data(source: Path, **options: Any) -> TranslationData:
    return open_translation(
        TranslationOptions(**validate(TranslationOptions, {"source": str(source), **options}, where="data"))
    )


def shown(images: Tensor) -> NDArray[Any]:
    """Back to bytes, (N, H, W, C)."""
    return ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


CHANGE = st.fixed_dictionaries(
    {
        "flip_horizontal": st.sampled_from([0, 0.5, 1]),
        "flip_vertical": st.sampled_from([0, 0.5, 1]),
        "quarter_turns": st.booleans(),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(CHANGE, st.integers(3, 9), st.integers(0, 2**31), st.sampled_from([None, 11, (9, 12), "patches"]))
def test_what_belongs_together_is_cut_and_changed_together(
    write: Write, change: dict[str, Any], size: int, seed: int, load: Any
) -> None:
    # Inputs, outputs, masks and maps that are the same picture must stay the same in every batch.
    flat = [each[:, :, 0] for each in pictures(3, 13, 10)]
    two = [np.where(each > 127, np.uint8(255), np.uint8(0)) for each in flat]
    root = write(A=two, B=two, mask=two)
    fit = {"fit": "patches"} if load == "patches" else {"load": load, "fit": "stretch"}
    # Stretched, pictures are smoothed and maps are not: then they agree where nothing is resized.
    if load is not None and load != "patches":
        fit = {"load": (13, 10), "fit": "stretch"}
    opened = data(root, sides=["A", "B"], mask="mask", size=size, channels=1, augment=change, **fit)
    torch.manual_seed(seed)
    batch = opened.batch(torch.tensor([0, 1, 2, 2, 1]))
    assert batch["data"].shape == (5, 1, size, size)
    assert torch.equal(batch["data"], batch["source"])
    if load is not None:
        assert torch.equal((batch["data"] > 0).float(), batch["mask"])


def test_label_maps_masks_and_instances_are_cut_with_their_pictures(write: Write) -> None:
    numbers = maps(2, 12, 12, 3)
    grey = [each * 100 for each in numbers]
    root = write("set", label=numbers, photo=grey, inst=numbers)
    opened = data(
        root,
        size=7,
        fit="patches",
        channels=1,
        instance="inst",
        augment={"flip_horizontal": 0.5, "quarter_turns": True},
    )
    batch = opened.batch(torch.tensor([0, 1] * 8))
    classes = batch["source"][:, :3].argmax(dim=1)
    assert torch.equal(classes, torch.from_numpy(shown(batch["data"])[..., 0] // 100).long())
    assert torch.equal(batch["source"][:, 3:], instance_edges(classes[:, None]))


def test_evaluation_cuts_from_the_middle_and_changes_nothing(write: Write) -> None:
    (image,) = pictures(1, 10, 14)
    opened = data(write(A=[image], B=[image]), size=4, fit="patches", augment={"flip_horizontal": 1})
    before = torch.get_rng_state()
    batch = opened.batch(torch.tensor([0]), augment=False)
    assert np.array_equal(shown(batch["data"])[0], image[3:7, 5:9]) and torch.equal(before, torch.get_rng_state())


def test_crops_come_from_everywhere(write: Write) -> None:
    ramp = np.arange(25, dtype=np.uint8).reshape(5, 5)
    opened = data(write(A=[ramp], B=[ramp]), size=1, fit="patches", channels=1)
    seen = np.unique(shown(opened.batch(torch.zeros(600, dtype=torch.int64))["data"]))
    assert seen.tolist() == list(range(25))


def test_label_maps_are_one_hot_and_void_is_nothing(write: Write) -> None:
    numbers = np.array([[0, 3, 7], [7, 255, 3]], np.uint8)
    opened = data(write(label=[numbers], photo=[np.zeros((2, 3), np.uint8)]), void=255)
    facts = opened.spec.extra["input"]
    assert (facts["kind"], facts["values"], facts["classes"], facts["channels"]) == (
        "labels",
        [0, 3, 7],
        ["0", "3", "7"],
        3,
    )
    source = opened.batch(torch.tensor([0]))["source"][0]
    for channel, value in enumerate((0, 3, 7)):
        assert torch.equal(source[channel], torch.from_numpy((numbers == value).astype(np.float32)))
    assert source[:, 1, 1].tolist() == [0, 0, 0]


def test_resized_label_maps_hold_no_class_that_was_not_there(write: Write) -> None:
    # Halves of class 0 and 200: an average of both would be a third.
    numbers = np.repeat(np.array([[0] * 5 + [200] * 6], np.uint8), 11, axis=0)
    opened = data(write(label=[numbers], photo=pictures(1, 11, 11)), size=4, void=9, fit="pad")
    assert opened.spec.extra["input"]["values"] == [0, 200]
    assert torch.equal(opened.batch(torch.tensor([0]))["source"].sum(dim=1), torch.ones(1, 4, 4))


def test_padding_of_a_label_map_is_of_no_class(write: Write) -> None:
    opened = data(write(label=[np.full((2, 4), 5, np.uint8)], photo=pictures(1, 2, 4)), size=4, void=255, fit="pad")
    assert opened.batch(torch.tensor([0]))["source"][0, 0].tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]


def test_named_classes_hold_for_data_that_has_not_all_of_them(write: Write) -> None:
    opened = data(write(label=[np.full((2, 2), 1, np.uint8)], photo=pictures(1, 2, 2)), classes=["sky", "road", "car"])
    assert opened.spec.extra["input"]["channels"] == 3
    assert opened.batch(torch.tensor([0]))["source"][0, :, 0, 0].tolist() == [0, 1, 0]


def test_a_palette_gives_the_colours_of_the_classes(write: Write) -> None:
    opened = data(write("set", ("seg",), seg=maps(2, 5, 5, 3), x=pictures(2, 5, 5)), sides=["seg", "x"])
    facts = opened.spec.extra["input"]
    assert facts["kind"] == "labels" and facts["palette"] == [[9, 9, 9], [250, 0, 0], [0, 250, 0]]
    assert len({tuple(colour) for colour in distinct_colours(40)}) == 40


def test_what_an_input_is_can_be_seen_or_said(write: Write) -> None:
    grey, photos = [each[:, :, 0] for each in pictures(1, 20, 20)], pictures(1, 20, 20)
    assert (
        data(write("a", A=grey, B=photos)).spec.extra["input"]["kind"] == "image"
    )  # grey, and nothing says it is a map
    assert data(write("b", label=grey, photo=photos)).spec.extra["input"]["kind"] == "labels"
    assert data(write("c", label=photos, photo=photos)).spec.extra["input"]["kind"] == "image"
    assert data(write("a"), input="labels").spec.extra["input"]["kind"] == "labels"
    # A photograph with a palette, as GIF files have one, is no map.
    root = write("d", A=photos, B=photos)
    Image.fromarray(photos[0]).quantize(256).save(root / "A" / "0.png")
    assert data(root).spec.extra["input"]["kind"] == "image"


def test_label_maps_of_16_bits_work(write: Write) -> None:
    numbers = np.array([[0, 1000], [40000, 1000]], np.uint16)
    opened = data(write(label=[numbers], photo=pictures(1, 2, 2)), augment={"quarter_turns": True})
    assert opened.spec.extra["input"]["values"] == [0, 1000, 40000]
    torch.manual_seed(0)
    assert opened.batch(torch.tensor([0] * 6))["source"].sum(dim=(2, 3)).tolist() == [[1, 2, 1]] * 6


@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))
def test_instance_edges_are_where_a_neighbour_is_another(seed: int, height: int, width: int, instances: int) -> None:
    instance = torch.randint(instances, (2, 1, height, width), generator=torch.Generator().manual_seed(seed))
    edges = instance_edges(instance)
    for n in range(2):
        for y in range(height):
            for x in range(width):
                neighbours = [(y + dy, x + dx) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
                there = [instance[n, 0, j, i] for j, i in neighbours if 0 <= j < height and 0 <= i < width]
                assert edges[n, 0, y, x] == any(each != instance[n, 0, y, x] for each in there)


def test_encoding_is_one_hot_of_the_listed_values() -> None:
    values = torch.tensor([[[[4, 9, 2], [300, 65535, 0]]]], dtype=torch.int32).to(torch.uint16)
    made = encode_labels(values, class_numbers([2, 9, 300]), 3, None)
    assert made[0].argmax(dim=0).tolist() == [[0, 1, 0], [2, 0, 0]]
    assert made[0].sum(dim=0).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_the_sides_of_a_pair_are_resized_each_on_its_own(write: Write) -> None:
    opened = data(write(A=pictures(2, 6, 6), B=pictures(2, 24, 12)), size=8, fit="stretch")
    batch = opened.batch(torch.tensor([0, 1]))
    assert batch["source"].shape == batch["data"].shape == (2, 3, 8, 8)


def test_grey_inputs_and_coloured_outputs(write: Write) -> None:
    grey, colour = [each[:, :, 0] for each in pictures(1, 4, 4)], pictures(1, 4, 4)
    batch = data(write(A=grey, B=colour), input_channels=1).batch(torch.tensor([0]))
    assert batch["source"].shape[1] == 1 and batch["data"].shape[1] == 3
    both = data(write(A=grey, B=colour)).batch(torch.tensor([0]))
    assert torch.equal(both["source"][:, 0], both["source"][:, 2])


def test_alpha_is_kept_where_it_is_wanted(write: Write) -> None:
    images = pictures(1, 4, 4, channels=4)
    kept = data(write(A=images, B=images), channels=4).batch(torch.tensor([0]))
    assert np.array_equal(shown(kept["data"])[0], images[0]) and kept["source"].shape[1] == 4
    assert data(write(A=images, B=images)).spec.shape == (3, 4, 4)


def test_unpaired_inputs_are_drawn_from_the_global_seed(write: Write) -> None:
    opened = data(write(A=pictures(7, 4, 4, seed=1), B=pictures(3, 4, 4)), layout="sides")
    assert len(opened) == 7 and not opened.paired
    batches: list[Batch] = []
    for _ in range(2):
        torch.manual_seed(3)
        batches.append(opened.batch(torch.arange(7)))
    assert torch.equal(batches[0]["source"], batches[1]["source"]) and torch.equal(
        batches[0]["data"], batches[1]["data"]
    )
    other = opened.batch(torch.arange(7))
    assert torch.equal(other["source"], batches[0]["source"])  # the longer side goes through all of its own
    assert not torch.equal(other["data"], batches[0]["data"])


def test_every_partner_is_drawn_as_often(write: Write) -> None:
    grey = [np.full((1, 1), value, np.uint8) for value in (10, 20, 30)]
    opened = data(write(A=[np.zeros((1, 1), np.uint8)] * 4, B=grey), layout="sides", channels=1)
    torch.manual_seed(0)
    drawn = shown(opened.batch(torch.arange(4).repeat(300))["data"]).flatten()
    assert all(abs(int((drawn == value).sum()) - 400) < 60 for value in (10, 20, 30))


def test_sides_that_do_not_belong_together_are_cut_apart(write: Write) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    opened = data(write(A=[ramp], B=[ramp]), layout="sides", size=2, fit="patches", channels=1)
    batch = opened.batch(torch.zeros(8, dtype=torch.int64))
    assert not torch.equal(batch["source"], batch["data"])


@pytest.mark.parametrize("layout", ["pairs", "sides"])
def test_what_is_drawn_does_not_depend_on_the_number_of_processes(write: Write, layout: str) -> None:
    images = pictures(6, 9, 9)
    opened = data(write(A=images, B=images), layout=layout, size=5, fit="patches", augment={"flip_horizontal": 0.5})
    indices = torch.arange(6)
    whole = _as_group(opened, indices, 1)
    for world in (2, 3):
        parts = _as_group(opened, indices, world)
        for name in whole:
            assert torch.equal(whole[name], parts[name])


def _as_group(opened: TranslationData, indices: Tensor, world: int) -> Batch:
    """A batch, drawn by so many processes, and joined."""
    parts = []
    for rank, share in enumerate(indices.chunk(world)):
        if world == 1:
            torch.manual_seed(5)
            parts.append(opened.batch(share))
        else:
            with processes.Group(rank, world, CPU, seed=5).playing():
                parts.append(opened.batch(share))
    return Batch({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def test_evaluation_of_unpaired_data_goes_around_both_sides(write: Write) -> None:
    opened = data(write(A=pictures(5, 4, 4, seed=1), B=pictures(2, 4, 4)), layout="sides")
    batch = opened.batch(torch.arange(5), augment=False)
    assert len(batch["source"].unique(dim=0)) == 5
    assert torch.equal(batch["data"][0], batch["data"][2]) and torch.equal(batch["data"][1], batch["data"][3])


def test_directions_change_places(write: Write) -> None:
    root = write(A=pictures(2, 4, 4, seed=1), B=pictures(2, 4, 4, seed=2))
    there, back = data(root), data(root, direction="b2a")
    one, other = there.batch(torch.arange(2)), back.batch(torch.arange(2))
    assert torch.equal(one["source"], other["data"]) and torch.equal(one["data"], other["source"])
    assert back.spec.extra["sides"] == ["B", "A"]


def test_class_folders_of_a_single_source_give_labels(write: Write) -> None:
    root = write("zoo", dog=pictures(2, 4, 4), ant=pictures(3, 4, 4))
    opened = data(root, layout="single")
    assert opened.spec.classes == ("ant", "dog") and opened.spec.extra["label_counts"] == [3, 2]
    batch = opened.batch(torch.arange(5))
    assert batch["label"].tolist() == [0, 0, 0, 1, 1] and "source" not in batch
    assert opened.spec.extra["input"] is None


@pytest.mark.parametrize(
    "change",
    [{"size": 4}, {"size": 6, "load": 7}, {"fit": "pad", "size": 6}, {"fit": "stretch", "size": 6}, {"fit": "patches", "size": 6},
     {"channels": 1}, {"input_channels": 1}, {"direction": "b2a"}, {"limit": 2}, {"input": "labels"}, {"layout": "sides"}],
    ids=str,
)  # fmt: skip
def test_settings_that_decide_the_pixels_change_the_fingerprint(write: Write, change: dict[str, Any]) -> None:
    grey = [each[:, :, 0] for each in pictures(3, 8, 9)]
    root = write(A=grey, B=grey)
    base = {"size": 6}
    assert data(root, **{**base, **change}).fingerprint != data(root, **base).fingerprint
    assert data(root, **base).fingerprint == data(root, **base).fingerprint


def test_another_file_changes_the_fingerprint_and_another_place_does_not(write: Write, tmp_path: Path) -> None:
    root = write(A=pictures(2, 4, 4), B=pictures(2, 4, 4))
    before = data(root).fingerprint
    root.rename(tmp_path / "moved")
    assert data(tmp_path / "moved").fingerprint == before
    Image.new("RGB", (4, 4)).save(tmp_path / "moved" / "B" / "1.png")
    assert data(tmp_path / "moved").fingerprint != before


def test_a_limit_keeps_the_same_rows_each_time(write: Write) -> None:
    images = pictures(9, 2, 2)
    root = write(A=images, B=images)
    one, other = data(root, limit=4), data(root, limit=4)
    assert len(one) == 4 and one.names == other.names
    batch = one.batch(torch.arange(4))
    assert torch.equal(batch["source"], batch["data"])


def test_rows_that_cannot_be_read_are_left_out_together_and_named(write: Write) -> None:
    root = write(A=pictures(4, 4, 4), B=pictures(4, 4, 4, seed=1))
    (root / "A" / "1.png").write_bytes(b"no image")
    (root / "B" / "3.png").unlink()
    Image.new("RGB", (4, 5)).save(root / "B" / "2.png")
    opened = data(root, size=4, fit="patches")
    assert opened.broken == [
        ("A/3.png", "has no partner of its name"),
        ("A/1.png", "not an image, or its header is damaged"),
        ("A/2.png", "is 4×4, and its partner 4×5: they cannot be cut alike"),
    ]
    assert opened.names == ["0.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"sizes differ \(6×4, 8×5\): say --set data\.size=256, or with data\.fit=patches"),
        ({"size": 7, "fit": "patches"}, r"an image of 6×4 pixels has no patch of 7×7: say a smaller data\.size"),
        ({"size": [3, 4], "augment": {"quarter_turns": True}}, r"quarter_turns needs square crops, and they are 4×3"),
        ({"fit": "patches"}, r"patches are cut from images as they are"),
        ({"size": 8, "load": 4}, r"must not be smaller"),
        ({"size": 0}, r"a size is 1 to 16384 pixels"),
        ({"sise": 4}, r"unknown key 'data\.sise' \(did you mean 'size'\?\)"),
        ({"direction": "b2a", "size": 4, "mask": "A"}, r"masks and instances belong to their own side"),
        ({"input": "labels", "size": 4}, r"none of its 2 images can be read \(0\.png: is a colour image \(RGB\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(write: Write, options: dict[str, Any], message: str) -> None:
    images = [*pictures(1, 4, 6), *pictures(1, 5, 8)]
    with pytest.raises(UserError, match=message) as raised:
        data(write(A=images, B=images), **options)
    assert "\n" not in str(raised.value)


def test_quarter_turns_of_images_that_are_not_square_are_refused_without_a_size_too(write: Write) -> None:
    images = pictures(2, 4, 6)
    with pytest.raises(UserError, match="quarter_turns needs square crops"):
        data(write(A=images, B=images), augment={"quarter_turns": True})


def test_maps_of_too_many_values_are_no_classes(write: Write) -> None:
    numbers = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    with pytest.raises(UserError, match=r"2000 different values are no classes: say data\.input=image"):
        data(write(label=[numbers], photo=pictures(1, 40, 50)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": ["a", "b"]},
            r"hold class 3, and data\.classes names 2: name all, or say which number is none with data\.void",
        ),
        ({"classes": ["a", "b"], "void": 3}, None),
    ],
)
def test_classes_that_are_not_named_are_said(write: Write, options: dict[str, Any], message: str | None) -> None:
    root = write(label=[np.array([[0, 1], [3, 0]], np.uint8)], photo=pictures(1, 2, 2))
    if message is None:
        assert data(root, **options).spec.extra["input"]["channels"] == 2
        return
    with pytest.raises(UserError, match=message):
        data(root, **options)


def test_data_to_measure_on_is_read_as_the_training_data_was(write: Write) -> None:
    known = data(write("a", label=[np.array([[0, 3], [7, 7]], np.uint8)], photo=pictures(1, 2, 2))).spec.extra
    options = {"source": str(write("b", label=[np.array([[3, 3], [3, 3]], np.uint8)], photo=pictures(1, 2, 2)))}
    held = open_translation(TranslationOptions(**options), known=known)
    assert held.spec.extra["input"] == known["input"]
    assert held.batch(torch.tensor([0]))["source"][0, :, 0, 0].tolist() == [0, 1, 0]
    strange = {"source": str(write("c", label=[np.array([[5, 3], [3, 3]], np.uint8)], photo=pictures(1, 2, 2)))}
    with pytest.raises(UserError, match="hold class 5, which the training data has not"):
        open_translation(TranslationOptions(**strange), known=known)


def test_a_set_on_the_disk_is_mapped_and_not_loaded(write: Write) -> None:
    images = pictures(3, 8, 8)
    opened = data(write(A=images, B=images))
    assert all(isinstance(raster.pixels, np.memmap) for raster in opened._rasters.values())
