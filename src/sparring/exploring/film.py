"""Pictures in a row as one file that moves: GIF, WebP and PNG by Pillow, MP4 by ffmpeg where it is installed."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from sparring.errors import UserError
from sparring.files import write_whole

ENDINGS = (".gif", ".webp", ".png", ".mp4")
PALETTE_FRAMES = 8  # that a GIF's colours are chosen from


def require_film(path: Path) -> None:
    """Raise UserError for an ending that no film can have, or one whose program is not here; before anything is drawn."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"cannot write {path}: a film ends in {', '.join(ENDINGS)}")
    if path.suffix.lower() == ".mp4":
        _ffmpeg(path)


def write_film(frames: Iterable[Image.Image], path: Path, *, fps: int) -> None:
    """Write frames of one size as a film that runs for ever (an MP4: once), in one atomic step.

    fps: frames a second; a GIF counts in hundredths of a second, so its pace is the nearest that it can have.
    Raises UserError as `require_film`, and where ffmpeg refuses.
    """
    require_film(path)
    pictures = list(frames)
    ending = path.suffix.lower()
    if ending == ".mp4":
        write_whole(path, _mp4(pictures, path, fps))
        return
    stream = io.BytesIO()
    if ending == ".gif":
        pictures = _one_palette(pictures)
        options = {"duration": 10 * max(2, round(100 / fps)), "loop": 0, "disposal": 1}
    else:
        options = {"duration": round(1000 / fps), "loop": 0}
        options |= {"quality": 85, "method": 4} if ending == ".webp" else {}
    pictures[0].save(stream, ending[1:].upper(), save_all=True, append_images=pictures[1:], **options)
    write_whole(path, stream.getvalue())


def _one_palette(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Colour pictures in the same 256 colours: a palette a frame would flicker. Grey ones are left."""
    if pictures[0].mode == "L":
        return list(pictures)
    chosen = pictures[:: max(1, len(pictures) // PALETTE_FRAMES)]
    width, height = pictures[0].size
    strip = Image.new("RGB", (width, height * len(chosen)))
    for row, picture in enumerate(chosen):
        strip.paste(picture, (0, row * height))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _mp4(pictures: Sequence[Image.Image], path: Path, fps: int) -> bytes:
    """The pictures as H.264, as every player takes it: even sides, 4:2:0."""
    width, height = (side + side % 2 for side in pictures[0].size)
    with tempfile.TemporaryDirectory() as folder:
        # ffmpeg goes back to the beginning of an MP4 when it is done, so it needs a file.
        made = Path(folder, "film.mp4")
        command = [
            _ffmpeg(path), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(fps), "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made),
        ]  # fmt: skip
        raw = b"".join(_padded(picture, width, height).tobytes() for picture in pictures)
        ended = subprocess.run(command, input=raw, capture_output=True, check=False)
        if ended.returncode:
            said = " ".join(ended.stderr.decode(errors="replace").split())[:200]
            raise UserError(f"{path}: ffmpeg could not write it ({said}); name a .gif or .webp")
        return made.read_bytes()


def _padded(picture: Image.Image, width: int, height: int) -> Image.Image:
    whole = Image.new("RGB", (width, height))
    whole.paste(picture)
    return whole


def _ffmpeg(path: Path) -> str:
    """The program: on the path, or the one that imageio-ffmpeg brings. Raises UserError."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise UserError(
            f"{path}: an MP4 needs ffmpeg: pip install 'sparring[video]', or name a .gif or .webp"
        ) from None
