"""Decoding: every format and mode gives its pixels, and what is damaged says why."""

from __future__ import annotations

import io
import multiprocessing
import struct
import threading
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sparring.data.decode import MAX_PIXELS, channels, decode, fit, probe, quiet
from sparring.data.source import BrokenSample

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
LA = RNG.integers(0, 256, (6, 9, 2), dtype=np.uint8)


def encode(image: Image.Image | np.ndarray, form: str, **options: object) -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A whole little PNG that claims to be of this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_back_every_pixel(form: str, pixels: np.ndarray) -> None:
    assert np.array_equal(decode(encode(pixels, form), "x").squeeze(), pixels)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_is_kept(form: str, options: dict[str, object]) -> None:
    assert np.array_equal(decode(encode(RGBA, form, **options), "x"), RGBA)


def test_grey_with_alpha_has_two_channels() -> None:
    assert np.array_equal(decode(encode(LA, "PNG"), "x"), LA)


def test_grey_with_a_transparent_value_has_two_channels() -> None:
    image = decode(encode(GREY, "PNG", transparency=int(GREY[0, 0])), "x")
    assert image.shape == (6, 9, 2)
    assert image[0, 0, 1] == 0


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats_are_near(form: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
    assert np.abs(decode(encode(smooth, form, quality=95), "x").astype(int) - smooth).max() < 12


def test_grey_that_is_stored_as_rgb_stays_rgb() -> None:
    assert decode(encode(np.repeat(GREY[:, :, None], 3, axis=2), "PNG"), "x").shape == (6, 9, 3)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_257(form: str) -> None:
    wide = np.array([[0, 257, 65535], [128 * 257, 300, 65000]], np.uint16)
    expected = np.rint(wide / 257).astype(np.uint8)
    assert np.array_equal(decode(encode(Image.fromarray(wide), form), "x")[:, :, 0], expected)


def test_32_bit_integers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(BrokenSample, match=r"0\.\.65535"):
        decode(encode(np.array([[0, 70000]], np.int32), "TIFF"), "x")


def test_floats_from_0_to_1_become_bytes() -> None:
    image = decode(encode(np.array([[0, 0.5, 1]], np.float32), "TIFF"), "x")
    assert image[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_other_floats_are_refused(value: float) -> None:
    with pytest.raises(BrokenSample, match=r"0\.\.1"):
        decode(encode(np.array([[0, value]], np.float32), "TIFF"), "x")


def test_palette_becomes_rgb() -> None:
    picture = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(decode(encode(picture, "PNG"), "x"), np.asarray(picture.convert("RGB")))


def test_palette_with_transparency_becomes_rgba() -> None:
    picture = Image.fromarray(RGB).quantize(16)
    image = decode(encode(picture, "PNG", transparency=3), "x")
    assert image.shape[2] == 4
    assert np.array_equal(image[:, :, 3] == 0, np.asarray(picture) == 3)


def test_cmyk_jpeg_becomes_rgb() -> None:
    picture = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = decode(encode(picture, "JPEG", quality=95), "x")[4, 4]
    assert red > 200 > 100 > max(green, blue)


def test_1_bit_becomes_black_and_white() -> None:
    picture = Image.fromarray(GREY > 128)
    assert picture.mode == "1"
    assert np.array_equal(decode(encode(picture, "PNG"), "x")[:, :, 0], (GREY > 128) * np.uint8(255))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("L", (5, 4), value) for value in (10, 200)]
    image = decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    assert image.shape[:2] == (4, 5)
    assert (image == 10).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_foreseen_by_probe(form: str, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # a white corner, top left
    stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(stored[orientation](upright)), form, exif=exif)
    image = decode(data, "x")
    assert image.shape == upright.shape == probe(data)
    assert np.abs(image.astype(int) - upright).mean() < 12


def test_a_damaged_exif_block_is_ignored() -> None:
    assert decode(encode(RGB, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "x").shape == RGB.shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 500, "not an image"),
        (b"<html>not found</html>", "not an image"),
        (encode(RGB, "PNG")[:60], "damaged|truncated|broken"),
        (png_header(100_000, 100_000), "million pixels"),
        (png_header(9_000, 9_000), "million pixels"),
        (png_header(100_000, 2), "damaged|truncated|broken"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    ],
    ids=["empty", "zeros", "html", "truncated", "bomb", "small bomb", "short data", "postscript"],
)
def test_what_cannot_be_decoded_is_broken_and_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenSample, match=reason) as caught:
        decode(data, "x")
    assert 0 < len(str(caught.value)) <= 130
    assert "\n" not in str(caught.value)


def test_pillows_settings_and_warnings_are_left_alone() -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BrokenSample):
            decode(png_header(10_000, 10_000), "x")
    assert limit == Image.MAX_IMAGE_PIXELS
    assert filters == list(warnings.filters)
    assert limit is not None
    assert limit > MAX_PIXELS


def test_crop_fills_the_size_and_keeps_the_middle() -> None:
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 10:20] = 255
    assert fit(image, (5, 5), "crop").min() > 230


def test_pad_shows_everything_on_black() -> None:
    image = fit(np.full((10, 30, 3), 255, np.uint8), (30, 30), "pad")
    assert image[:10].max() == image[20:].max() == 0
    assert image[10:20].min() == 255


def test_stretch_changes_proportions() -> None:
    assert fit(RGB, (12, 3), "stretch").shape == (12, 3, 3)


def test_shrinking_is_antialiased() -> None:
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)[:, :, None]
    assert np.abs(fit(board, (8, 8)).astype(int) - 127).max() < 12


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("pixels", [GREY[:, :, None], LA, RGB, RGBA], ids=["1", "2", "3", "4"])
def test_channels_converts_any_count_to_any_other(pixels: np.ndarray, count: int) -> None:
    image = channels(pixels, count)
    assert image.shape == (*pixels.shape[:2], count)
    if count in (2, 4):
        opaque = 255 if pixels.shape[2] in (1, 3) else pixels[:, :, -1]
        assert (image[:, :, -1] == opaque).all()


def test_lost_alpha_is_laid_over_black() -> None:
    pixel = np.array([[[200, 100, 50, 0]]], np.uint8)
    assert channels(pixel, 3).max() == 0
    pixel[..., 3] = 255
    assert channels(pixel, 3).tolist() == [[[200, 100, 50]]]


def _enter_quiet() -> None:
    with quiet:
        pass


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system forks no processes")
def test_a_process_forked_while_a_thread_switches_warnings_can_switch_them_too() -> None:
    over = threading.Event()

    def switch() -> None:
        while not over.is_set():
            _enter_quiet()

    threads = [threading.Thread(target=switch) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            process = multiprocessing.get_context("fork").Process(target=_enter_quiet)
            process.start()
            process.join(5)
            if hung := process.is_alive():
                process.kill()
            assert not hung
    finally:
        over.set()
        for thread in threads:
            thread.join()
