"""Claims about sample sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sparring.errors import UserError
from sparring.imaging.show import BACKGROUND, save_png, sheet, to_uint8


def _images(count: int, channels: int, height: int, width: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=rng) * 2 - 1


def test_uint8_round_trip_is_exact() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(pixels / 127.5 - 1), pixels)
    assert torch.equal(to_uint8(pixels), pixels)


def test_values_beyond_the_range_are_clamped() -> None:
    assert to_uint8(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]


def test_nan_is_an_error_and_not_a_black_pixel() -> None:
    with pytest.raises(UserError, match="diverged"):
        to_uint8(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "RGB"), (3, "RGB"), (4, "RGB")])
def test_digits_grow_six_times_on_a_square_sheet(channels: int, mode: str) -> None:
    picture = sheet(_images(64, channels, 8, 8))
    assert picture.mode == mode
    assert picture.size == (8 * 50 + 2, 8 * 50 + 2)


@pytest.mark.parametrize(
    ("count", "height", "width", "columns", "size"),
    [
        (6, 64, 64, 3, (3 * 66 + 2, 2 * 66 + 2)),
        (5, 64, 64, 3, (3 * 66 + 2, 2 * 66 + 2)),
        (8, 32, 128, None, (2 * 258 + 2, 4 * 66 + 2)),
        (8, 128, 32, None, (6 * 66 + 2, 2 * 258 + 2)),
        (1, 64, 64, None, (68, 68)),
        (2, 64, 64, 10, (2 * 66 + 2, 68)),
        (4, 1, 1, 2, (102, 102)),
    ],
)
def test_sheet_layout(count: int, height: int, width: int, columns: int | None, size: tuple[int, int]) -> None:
    assert sheet(_images(count, 3, height, width), columns=columns).size == size


def test_cells_lie_row_by_row_and_the_rest_is_background() -> None:
    images = torch.stack([torch.full((1, 48, 48), value / 127.5 - 1) for value in (10, 20, 30)])
    picture = sheet(images, columns=2)
    centres = [picture.getpixel((2 + 24 + 50 * column, 2 + 24 + 50 * row)) for row in range(2) for column in range(2)]
    assert centres == [10, 20, 30, BACKGROUND]
    assert picture.getpixel((1, 1)) == picture.getpixel((50, 30)) == picture.getpixel((101, 101)) == BACKGROUND


def test_without_upscaling_a_pixel_is_a_pixel() -> None:
    images = _images(4, 3, 8, 8)
    picture = np.asarray(sheet(images, upscale=False))
    assert picture.shape == (22, 22, 3)
    assert np.array_equal(picture[2:10, 12:20], to_uint8(images)[1].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("side", "columns"), [(8, 30), (100, 100), (1024, 8)])
def test_sheets_stay_within_two_thousand_pixels(side: int, columns: int) -> None:
    images = torch.zeros(1, 1, side, side, dtype=torch.uint8).expand(columns, -1, -1, -1)
    width = sheet(images, columns=columns).width
    assert 1000 < width <= 2000


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_pixels_show_a_checkerboard_and_opaque_ones_do_not(channels: int) -> None:
    images = torch.zeros(2, channels, 64, 64, dtype=torch.uint8)
    images[1, -1] = 255
    picture = np.asarray(sheet(images, columns=2))
    assert set(np.unique(picture[2:66, 2:66])) == {204, 255}
    assert set(np.unique(picture[2:66, 68:132])) == {0}


def test_row_labels_widen_the_sheet_and_nothing_else() -> None:
    images = _images(20, 1, 8, 8)
    plain, labelled = sheet(images, columns=10), sheet(images, columns=10, labels=["zero", "two\nlines " * 50])
    assert labelled.height == plain.height
    assert 0 < labelled.width - plain.width < 260
    assert np.array_equal(np.asarray(labelled)[:, -plain.width :], np.asarray(plain))
    margin = np.asarray(labelled)[:, : -plain.width]
    assert (margin[:51] < 100).any() and (margin[51:] < 100).any()


def test_labels_that_are_not_one_a_row_are_refused() -> None:
    with pytest.raises(ValueError, match="3 labels for a sheet of 2 rows"):
        sheet(_images(4, 3, 8, 8), columns=2, labels=["a", "b", "c"])


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 5, 8, 8), (0, 3, 8, 8)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a sheet shows images"):
        sheet(torch.zeros(shape))


def test_saved_sheet_reads_back(tmp_path: Path) -> None:
    picture = sheet(_images(4, 3, 8, 8))
    save_png(picture, tmp_path / "samples" / "step-00000100.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples" / "step-00000100.png")), np.asarray(picture))
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-00000100.png"]
