"""From the bytes of an image file to an array of pixels, whatever the file is like.

Rules where formats leave a choice:
- Only PNG, JPEG, WebP, BMP, GIF, TIFF and PNM are tried: other Pillow readers start programs or are rarely tested.
- Animations: the first frame. EXIF orientation is applied, a damaged EXIF block is ignored.
- 16-bit grey: v / 257, rounded, so that 65535 becomes 255. 32-bit integers are read as 16-bit values (some 16-bit files
  open that way) and refused outside 0..65535. Floats must lie in [0, 1]. Nothing is stretched to its own range.
- A palette becomes RGB, or RGBA where it has transparency; CMYK, YCbCr, Lab become RGB; 1-bit becomes grey.
- Grey stored as RGB stays RGB.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Named plugins are registered by their import; otherwise the first WebP would make Pillow load every plugin it has.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sparring.data.source import BrokenSample

MAX_PIXELS = 64 * 2**20  # a header that claims more is refused before anything is decoded
# Pictures of several views (MPO) open as the JPEG files that they are.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
Fit = Literal["crop", "pad", "stretch"]

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CHANNELS = {"1": 1, "L": 1, "LA": 2, "La": 2, "RGBA": 4, "RGBa": 4, "PA": 4, "I": 1, "F": 1}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image file: uint8 (H, W, C), C in 1 (grey), 2 (grey+alpha), 3 (RGB), 4 (RGBA).

    name: of the image, as in `ImageSource.names`; the reasons do not repeat it.
    Raises BrokenSample, saying why in a few words, whatever Pillow raises.
    """
    with _explained(), _open(io.BytesIO(_some(data))) as image:
        image.load()
        return np.ascontiguousarray(_pixels(_upright(image)))


def decode_indices(data: bytes, name: str) -> NDArray[Any]:
    """Decode a map of whole numbers, (H, W, 1), uint8 or, where a value needs it, uint16: nothing is scaled.

    They are the indices of a palette, the values of a grey image of up to 16 bits, or those of a colour image whose
    channels are all the same. Raises BrokenSample.
    """
    with _explained(), _open(io.BytesIO(_some(data))) as image:
        image.load()
        turned = _upright(image)
        values = np.asarray(turned)
        if values.ndim == 3 and turned.mode == "RGB" and (values == values[..., :1]).all():
            values = values[..., 0]
        if values.ndim != 2 or values.dtype.kind not in "biu":
            raise BrokenSample(f"is a colour image ({image.mode}), where a map of class numbers is wanted")
        if values.min() < 0 or values.max() > 65535:
            raise BrokenSample(f"holds {values.min()} to {values.max()}, and numbers of maps are 0 to 65535")
        return values.astype(np.uint8 if values.max() < 256 else np.uint16)[:, :, None]


def probe(file: bytes | Path) -> tuple[int, int, int]:
    """The shape (H, W, C) that `decode` will give, from the header alone. Raises BrokenSample.

    A header may lie: `decode` can still raise, or give another shape.
    """
    with _explained(), _open(io.BytesIO(_some(file)) if isinstance(file, bytes) else file) as image:
        width, height = image.size
        # Pillow already swaps the size of those TIFF files that it will turn while loading.
        if image.format != "TIFF" and _orientation(image) >= 5:
            width, height = height, width
        return height, width, _channel_count(image)


def fit(image: NDArray[Any], size: tuple[int, int], mode: Fit = "crop") -> NDArray[Any]:
    """Resize an image (H, W, C), uint8 or uint16, to `size` (H, W), antialiased (Lanczos; alpha is premultiplied while resizing).

    mode: "crop" fills the size and cuts what stands out, evenly on both sides; "pad" shows the whole image on black
    (transparent black where it has alpha); "stretch" changes the proportions.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    target_height, target_width = size
    if mode == "pad":
        scale = min(target_height / height, target_width / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        inner = min(inner[0], target_height), min(inner[1], target_width)
        canvas = np.zeros((*size, image.shape[2]), image.dtype)
        top, left = (target_height - inner[0]) // 2, (target_width - inner[1]) // 2
        canvas[top : top + inner[0], left : left + inner[1]] = fit(image, inner, "stretch")
        return canvas
    box = (0.0, 0.0, float(width), float(height))
    if mode == "crop":
        scale = max(target_height / height, target_width / width)
        cut_x, cut_y = (width - target_width / scale) / 2, (height - target_height / scale) / 2
        box = (max(0.0, cut_x), max(0.0, cut_y), min(width, width - cut_x), min(height, height - cut_y))
    if image.dtype == np.uint16:  # Pillow has one resampling of more than eight bits, that of floats
        planes = (Image.fromarray(image[:, :, channel].astype(np.float32)) for channel in range(image.shape[2]))
        resized = (plane.resize((target_width, target_height), Image.Resampling.LANCZOS, box=box) for plane in planes)
        return np.rint(np.stack([*map(np.asarray, resized)], axis=2)).clip(0, 65535).astype(np.uint16)
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    return _array(picture.resize((target_width, target_height), Image.Resampling.LANCZOS, box=box))


def channels(image: NDArray[Any], count: int) -> NDArray[Any]:
    """Convert an image (H, W, C), uint8, or uint16 where it is grey, to `count` channels: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA.

    Colour becomes grey by ITU-R 601 luma; grey is repeated; new alpha is opaque; lost alpha is laid over black.
    """
    if image.shape[2] == count:
        return image
    alpha = image[:, :, -1:] if image.shape[2] in (2, 4) else None
    colour = image[:, :, :-1] if alpha is not None else image
    if alpha is not None and count in (1, 3):
        colour = ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
    if colour.shape[2] == 3 and count <= 2:
        colour = _array(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))
    elif colour.shape[2] == 1 and count >= 3:
        colour = np.repeat(colour, 3, axis=2)
    if count in (2, 4):
        opaque = np.full((*image.shape[:2], 1), np.iinfo(image.dtype).max, image.dtype)
        colour = np.concatenate([colour, opaque if alpha is None else alpha], axis=2)
    return np.ascontiguousarray(colour)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a loaded image as uint8 (H, W, C), by the rules at the top."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image))
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BrokenSample(f"32-bit integers from {values.min()} to {values.max()}: only 0..65535 is understood")
        return _from_16_bit(values)
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # so put, a NaN is refused as well
            raise BrokenSample(f"floats from {values.min():.4g} to {values.max():.4g}: only 0..1 is understood")
        return np.rint(values * 255).astype(np.uint8)[:, :, None]
    mode = _MODES[_channel_count(image)]
    if image.mode == "1" and mode == "LA":
        image = image.convert("L")
    return _array(image if image.mode == mode else image.convert(mode))


def _channel_count(image: Image.Image) -> int:
    transparent = "transparency" in image.info
    if image.mode in ("1", "L") and transparent:
        return 2
    if image.mode in ("P", "RGB"):
        return 4 if transparent or (image.palette is not None and image.palette.mode == "RGBA") else 3
    return 1 if image.mode.startswith("I;16") else _CHANNELS.get(image.mode, 3)


def _from_16_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)[:, :, None]


def _array(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _upright(image: Image.Image) -> Image.Image:
    turn = _TRANSPOSE.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or none that can be read."""
    if image.format not in ("TIFF", "WEBP") and "exif" not in image.info and "Raw profile type exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _some(data: bytes) -> bytes:
    if not data:
        raise BrokenSample("the file is empty")
    return data


def _open(file: io.BytesIO | Path) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise BrokenSample(f"{width}×{height} is more than {MAX_PIXELS >> 20} million pixels")
    return image


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a decoder raises into BrokenSample with a short reason, and keep Pillow's warnings to ourselves."""
    try:
        with quiet:
            yield
    except BrokenSample:
        raise
    except Image.UnidentifiedImageError:
        raise BrokenSample("not an image, or its header is damaged") from None
    except Image.DecompressionBombError:
        raise BrokenSample(f"more than {MAX_PIXELS >> 20} million pixels") from None
    except MemoryError:
        raise BrokenSample("needs more memory than there is") from None
    except FileNotFoundError:
        raise BrokenSample("the file is missing") from None
    except (struct.error, zlib.error, EOFError, IndexError, KeyError) as error:
        raise BrokenSample(f"damaged ({' '.join(str(error).split())[:80] or type(error).__name__})") from error
    except Exception as error:  # decoders of damaged files raise nearly anything: TypeError, AttributeError, …
        raise BrokenSample(" ".join(str(error).split())[:100] or type(error).__name__) from error


class _Quiet:
    """Warnings off while any thread is inside, and exactly as before once the last has left.

    `warnings.catch_warnings` swaps a list that all threads share: two that overlap would leave it swapped for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: Any = None
        if hasattr(os, "register_at_fork"):
            # A process that is forked while another thread holds the lock would wait for it for ever.
            release = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=release, after_in_child=release)

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


quiet = _Quiet()
"""To be inside while many images are decoded spares each of them the switching."""
