"""Films, frame by frame: pace, size and sound are kept. GIF and animated WebP and PNG by Pillow, others by ffmpeg."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from sparring.data.source import BrokenSample
from sparring.errors import UserError, missing_extra
from sparring.files import write_whole

FILMS = (".mp4", ".mov", ".mkv", ".avi", ".m4v", ".webm")
"""Endings of films that ffmpeg reads and writes."""
MOVING = (".gif", ".webp", ".png")
"""Endings of images that may be films."""

Frame = NDArray[np.uint8]
Change = Callable[[Frame], Frame]
"""A frame (H, W, 3) → what becomes of it, all of one size."""


def moves(data: bytes, name: str) -> bool:
    """Whether an image file holds several frames."""
    if not name.lower().endswith(MOVING):
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "PNG")) as image:
            return int(getattr(image, "n_frames", 1)) > 1
    except (OSError, ValueError, SyntaxError):
        return False  # reading it as a picture will say what is wrong


def change_images(data: bytes, target: Path, change: Change) -> int:
    """Write the frames of an animated image as `change` makes them, each for as long as it was; returns how many.

    Raises BrokenSample where the frames cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "PNG")) as film:
            form, loop = str(film.format), film.info.get("loop", 0)
            frames: list[Image.Image] = []
            durations: list[int] = []
            for frame in ImageSequence.Iterator(film):
                durations.append(round(frame.info.get("duration", 100)))
                frames.append(_picture(change(np.asarray(frame.convert("RGB")))))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise BrokenSample(" ".join(str(error).split())[:100]) from error
    stream = io.BytesIO()
    more: dict[str, Any] = {"lossless": True} if form == "WEBP" else {"disposal": 2} if form == "GIF" else {}
    frames[0].save(stream, form, save_all=True, append_images=frames[1:], duration=durations, loop=loop, **more)
    write_whole(target, stream.getvalue())
    return len(frames)


def change_film(source: Path, target: Path, change: Change) -> int:
    """Write the frames of a film as `change` makes them, at its pace and with its sound; returns how many.

    One frame is in memory at a time. H.264 (VP9 in `.webm`), 4:2:0 where sides are even, and 4:4:4 where not, so that
    the size stays what it is. Raises BrokenSample where it cannot be read, UserError without ffmpeg.
    """
    ffmpeg = _ffmpeg(source)
    with contextlib.ExitStack() as after:
        reader = ffmpeg.read_frames(str(source), pix_fmt="rgb24")
        after.callback(reader.close)
        try:
            facts = next(reader)
        except (OSError, RuntimeError, StopIteration, IndexError, KeyError, ValueError) as error:
            raise BrokenSample(f"is no film that ffmpeg can read ({_last_line(error)})") from error
        width, height = facts["size"]
        frames = (np.frombuffer(each, np.uint8).reshape(height, width, 3) for each in reader)
        temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        after.callback(temporary.unlink, missing_ok=True)
        sound = source if facts.get("audio_codec") else None
        count = _write(ffmpeg, temporary, (change(frame) for frame in frames), facts["fps"] or 25, sound)
        if not count:
            raise BrokenSample("has no frames")
        temporary.replace(target)
    return count


def film_of(data: bytes, name: str) -> contextlib.AbstractContextManager[Path]:
    """A file with this content, for ffmpeg, which reads nothing else; it goes afterwards."""

    @contextlib.contextmanager
    def opened() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "film" + Path(name).suffix)
            path.write_bytes(data)
            yield path

    return opened()


def _write(ffmpeg: Any, target: Path, frames: Iterable[Frame], fps: float, sound: Path | None) -> int:
    """Give frames to ffmpeg, whose size the first one decides; returns how many there were."""
    count, writer = 0, None
    try:
        for frame in frames:
            if writer is None:
                height, width = frame.shape[:2]
                options: dict[str, Any] = {"audio_path": str(sound), "audio_codec": "copy"} if sound else {}
                writer = ffmpeg.write_frames(
                    str(target), (width, height), fps=fps, macro_block_size=1, quality=None, **options,
                    codec="libvpx-vp9" if target.suffix.lower() == ".webm" else "libx264",
                    pix_fmt_out="yuv420p" if height % 2 == width % 2 == 0 else "yuv444p",
                    output_params=["-crf", "16"],
                )  # fmt: skip
                writer.send(None)
            writer.send(np.ascontiguousarray(frame if frame.shape[2] == 3 else frame[:, :, :1].repeat(3, axis=2)))
            count += 1
    except OSError as error:
        raise UserError(f"{target.name}: ffmpeg could not write it ({_last_line(error)})") from error
    finally:
        if writer is not None:
            writer.close()
    return count


def _picture(frame: Frame) -> Image.Image:
    return Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:100]


def _ffmpeg(source: Path) -> Any:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise missing_extra("imageio-ffmpeg", "video", f"{source}: translating films") from error
    return imageio_ffmpeg
