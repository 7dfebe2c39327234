"""Recorder: what a training leaves on disk as figures, `metrics.jsonl` and TensorBoard events.

Recording never stops a training. A full disk, a folder that went away or a damaged sheet is said once; what could not
be written to `metrics.jsonl` is kept and goes there with the next line that can be.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sparring.files import write_whole
from sparring.run import Run

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

# TensorBoard's checksum is plain Python, a few MB/s: a larger sheet is re-encoded so that it cannot hold up a step.
EVENT_IMAGE_BYTES = 256 * 1024
EVENT_IMAGE_SIDE = 1024

log = logging.getLogger("sparring")


class Recorder:
    """Writes the figures of one run.

    run: the folder; files are opened with the first line.
    resume_step: the step that the training goes on from. What an earlier process recorded after it is dropped, in
        `metrics.jsonl` and in TensorBoard, so that every step is there once.
    warn: called once, with one line, when something cannot be written.
    """

    def __init__(self, run: Run, *, resume_step: int | None = None, warn: Callable[[str], None] = log.warning) -> None:
        self.run = run
        self._warn: Callable[[str], None] | None = warn
        self._waiting = b""
        self._metrics = _Appender(run.metrics_file)
        self._events = _Events(run.events, purge_step=None if resume_step is None else resume_step + 1)
        if resume_step is not None:
            try:
                forget_after(run.metrics_file, resume_step)
            except OSError as error:
                self._complain(error)

    def record(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Append one line and the same scalars to TensorBoard.

        step: steps done so far; seconds: of training so far, over all the processes that worked on the run.
        Numbers keep six significant digits; NaN and infinities become the strings "nan", "inf" and "-inf".
        """
        line = {"step": step, "seconds": _plain(seconds)} | {name: _plain(value) for name, value in values.items()}
        self._waiting += json.dumps(line).encode() + b"\n"
        self._write_waiting()
        try:
            self._events.scalars(step, values)
        except OSError as error:
            self._complain(error)

    def image(self, step: int, path: Path) -> None:
        """Show the sample sheet at `path`, any picture that PIL reads, in TensorBoard."""
        try:
            self._events.image(step, "samples", path)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Write what is waiting, if that is possible by now, and close the files. Safe to call twice."""
        if self._waiting:
            self._write_waiting()
        for file in (self._metrics, self._events):
            try:
                file.close()
            except OSError as error:
                self._complain(error)

    def _write_waiting(self) -> None:
        try:
            self._metrics.append(self._waiting)
            self._waiting = b""
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if self._warn is not None:
            where = error.filename or self.run.folder
            self._warn(
                f"{where}: recording failed ({error.strerror or error}); the training goes on, "
                f"figures are kept in memory and written to {self.run.metrics_file.name} once that works again"
            )
            self._warn = None


def forget_after(path: Path, step: int) -> None:
    """Drop the lines of a metrics file that lie after `step`, and any line that a kill cut short, atomically."""
    if not path.exists():
        return
    before = path.read_bytes()
    kept = b"".join(line for line in before.splitlines(keepends=True) if _is_whole(line, step))
    if kept != before:
        write_whole(path, kept)


def _is_whole(line: bytes, last: int) -> bool:
    try:
        values = json.loads(line)
    except ValueError:
        return False
    # A line that is whole but for its newline would run into the next one.
    return line.endswith(b"\n") and isinstance(values, dict) and values.get("step", math.inf) <= last


def _plain(value: float) -> float | str:
    """A number as JSON can hold it."""
    if isinstance(value, int):
        return value
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


class _Appender:
    """A file that grows by whole pieces: a piece that only half fits on the disk is taken back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: io.FileIO | None = None

    def append(self, data: bytes) -> None:
        """Write all of `data` or none of it. Raises OSError."""
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = io.FileIO(self.path, "a")
        end = os.fstat(self._stream.fileno()).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]
        except OSError as error:
            # Shortening a file needs no room, so this works on a full disk too. The next piece opens the file afresh.
            with contextlib.suppress(OSError):
                os.ftruncate(self._stream.fileno(), end)
            with contextlib.suppress(OSError):
                self.close()
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Close the file if it was opened."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()


class _Events:
    """TensorBoard's event file, written in the calling thread.

    SummaryWriter writes in a thread of its own, where a full disk ends the thread, prints a traceback and tears a
    record in two; and it takes seconds to import. The format itself is a few lines.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        # TensorBoard reads files in the order of their names: the nanoseconds keep two of one process apart.
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{now}"
        self._file = _Appender(folder / name)
        self._purge_step = purge_step
        self._begun = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One event that holds all the figures of a step. Raises OSError."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def image(self, step: int, tag: str, path: Path) -> None:
        """One picture. Raises OSError, also where the file is no picture."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        encoded = path.read_bytes()
        try:
            with Image.open(io.BytesIO(encoded)) as file:
                picture = file.convert("RGB")
        except (OSError, SyntaxError) as error:  # PIL's word for a damaged PNG is SyntaxError
            raise OSError(errno.EILSEQ, "not a whole picture", str(path)) from error
        if len(encoded) > EVENT_IMAGE_BYTES:
            picture.thumbnail((EVENT_IMAGE_SIDE, EVENT_IMAGE_SIDE))
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=85)
            encoded = buffer.getvalue()
        shown = Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=3,
            encoded_image_string=encoded,
        )
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=shown)]))

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        events = [Event(wall_time=time.time(), **event)]
        if not self._begun:
            head = [Event(wall_time=time.time(), file_version="brain.Event:2")]
            if self._purge_step is not None:
                # TensorBoard hides what older files of the run hold from this step on.
                start = SessionLog(status=SessionLog.START)
                head.append(Event(wall_time=time.time(), step=self._purge_step, session_log=start))
            events = [*head, *events]
        self._file.append(b"".join(map(_event_record, events)))
        self._begun = True

    def close(self) -> None:
        """Close the file if it was opened."""
        self._file.close()


def _event_record(event: Event) -> bytes:
    """An event with TensorBoard's length and checksums around it."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
