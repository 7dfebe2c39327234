"""Claims about the recorder and the progress display."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparring.run import Run
from sparring.training.progress import Progress
from sparring.training.recorder import Recorder

TURN = "loss/discriminator/adversarial"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


class Disk:
    """When full, every file takes five more bytes and then no more."""

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            if disk.full and len(data) <= 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(bytes(data)[:5] if disk.full else data)

    monkeypatch.setattr("sparring.training.recorder.io.FileIO", File)
    return disk


def test_a_line_holds_step_seconds_and_six_digits(run: Run) -> None:
    recorder = Recorder(run)
    recorder.record(20, {TURN: 1.23456789, "lr/generator": 2e-4}, seconds=1.5)
    assert run.read_metrics() == [{"step": 20, "seconds": 1.5, TURN: 1.23457, "lr/generator": 0.0002}]
    recorder.close()


def test_what_json_lacks_is_written_as_words(run: Run) -> None:
    recorder = Recorder(run)
    recorder.record(1, {"a": math.nan, "b": math.inf, "c": -math.inf}, seconds=0.0)
    recorder.close()
    line = json.loads(run.metrics_file.read_text(), parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))
    assert (line["a"], line["b"], line["c"]) == ("nan", "inf", "-inf")


def test_resumed_metrics_hold_every_step_once(run: Run) -> None:
    first = Recorder(run)
    for step in range(20, 101, 20):
        first.record(step, {TURN: 1.0}, seconds=step)
    first.close()
    with run.metrics_file.open("a") as stream:
        stream.write('{"step": 120, "seco')  # killed here; the checkpoint is from step 60

    second = Recorder(run, resume_step=60)
    for step in range(80, 141, 20):
        second.record(step, {TURN: 2.0}, seconds=step)
    second.close()
    assert [line["step"] for line in run.read_metrics()] == [20, 40, 60, 80, 100, 120, 140]
    assert [line[TURN] for line in run.read_metrics()] == [1.0] * 3 + [2.0] * 4
    assert len(run.metrics_file.read_text().splitlines()) == 7


def test_a_last_line_without_its_newline_is_dropped(run: Run) -> None:
    run.folder.mkdir()
    run.metrics_file.write_text('{"step": 20, "seconds": 1}\n{"step": 40, "seconds": 2}')
    Recorder(run, resume_step=40).close()
    assert run.metrics_file.read_text() == '{"step": 20, "seconds": 1}\n'


def test_tensorboard_shows_the_resumed_run_without_the_steps_it_replaced(run: Run) -> None:
    first = Recorder(run)
    for step in (20, 40, 60):
        first.record(step, {TURN: 1.0}, seconds=0)
    first.close()
    second = Recorder(run, resume_step=20)
    second.record(40, {TURN: 2.0}, seconds=0)
    second.close()

    events = EventAccumulator(str(run.events)).Reload()
    assert [(event.step, event.value) for event in events.Scalars(TURN)] == [(20, 1.0), (40, 2.0)]


@pytest.mark.parametrize("side", [16, 1500], ids=["small", "large"])
def test_tensorboard_shows_the_sample_sheets(run: Run, tmp_path: Path, side: int) -> None:
    path = tmp_path / "step-00000020.png"
    Image.effect_noise((side, side), 100).save(path)
    recorder = Recorder(run)
    recorder.image(20, path)
    recorder.close()
    (event,) = EventAccumulator(str(run.events)).Reload().Images("samples")
    shown = Image.open(io.BytesIO(event.encoded_image_string))
    assert event.step == 20
    assert shown.size == (event.width, event.height) == (min(side, 1024), min(side, 1024))


def test_a_full_disk_is_said_once_and_loses_no_line(run: Run, disk: Disk) -> None:
    said: list[str] = []
    recorder = Recorder(run, warn=said.append)
    disk.full = True
    for step in (1, 2, 3):
        recorder.record(step, {TURN: float(step)}, seconds=step)
    assert run.metrics_file.read_bytes() == b""  # the five bytes that fitted were taken back
    assert len(said) == 1
    assert "No space left on device" in said[0]

    disk.full = False
    recorder.record(4, {TURN: 4.0}, seconds=4)
    recorder.close()
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]


def test_what_waited_for_room_is_written_at_the_end(run: Run, disk: Disk) -> None:
    recorder = Recorder(run, warn=lambda text: None)
    disk.full = True
    recorder.record(1, {TURN: 1.0}, seconds=1)
    disk.full = False
    recorder.close()
    assert [line["step"] for line in run.read_metrics()] == [1]


def test_a_full_disk_leaves_whole_events(run: Run, disk: Disk) -> None:
    recorder = Recorder(run, warn=lambda text: None)
    for step in (1, 2, 3):
        disk.full = step == 2
        recorder.record(step, {TURN: float(step)}, seconds=step)
    recorder.close()
    assert [event.step for event in EventAccumulator(str(run.events)).Reload().Scalars(TURN)] == [1, 3]


def test_a_damaged_sheet_or_a_missing_folder_does_not_raise(run: Run, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "run").write_text("a file where the folder should be")
    (tmp_path / "sheet.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    recorder = Recorder(run, resume_step=5, warn=said.append)
    recorder.record(6, {TURN: 1.0}, seconds=0)
    recorder.image(6, tmp_path / "sheet.png")
    recorder.image(6, tmp_path / "missing.png")
    recorder.close()
    recorder.close()
    assert len(said) == 1


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _play(terminal: bool, *, total: int | None = 1000, quiet: bool = False, minutes: float | None = None) -> str:
    """Thirty seconds of eight steps a second, as shown."""
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=110, highlight=False, color_system=None)
    with Progress(total, console=console, clock=clock, quiet=quiet, minutes=minutes) as progress:
        for step in range(1, 241):
            clock.now += 0.125
            progress.update(step, step * 64, {"discriminator": 0.61, "generator": math.nan})
            if step == 120:
                progress.note("a sheet [bold] was written")
    return stream.getvalue()


def test_progress_on_no_terminal_prints_a_line_every_ten_seconds() -> None:
    lines = _play(terminal=False).splitlines()
    assert len(lines) == 4
    assert lines[0] == "step 80/1000 · 512 img/s · discriminator 0.61 · generator nan · 1:55 left"
    assert lines[1] == "a sheet [bold] was written"
    assert lines[-1].startswith("step 240/1000")


def test_progress_bounded_by_time_shows_elapsed_of_minutes() -> None:
    line = _play(terminal=False, total=None, minutes=2).splitlines()[-1]
    assert line.startswith("step 240 ·")
    assert line.endswith("0:30 of 2:00")


def test_progress_on_a_terminal_draws_a_bar_that_fits_the_width() -> None:
    frames = [line for line in re.split(r"[\r\n]|\x1b\[\S*?[A-Za-z]", _play(terminal=True)) if line.strip()]
    assert "step 240/1000" in frames[-1]
    assert "512 img/s · 1:35 left" in frames[-1]
    assert "discriminator 0.61 · generator nan" in frames[-1]
    assert max(map(len, frames)) <= 110


def test_quiet_progress_prints_notes_only() -> None:
    assert _play(terminal=True, quiet=True) == "a sheet [bold] was written\n"


def test_progress_survives_a_terminal_that_went_away() -> None:
    stream = io.StringIO()
    progress = Progress(10, console=Console(file=stream), clock=(clock := Clock()))
    stream.close()
    with progress:
        clock.now += 60
        progress.update(5, 5, {})
        progress.note("nobody reads this")


def test_speed_counts_only_what_this_process_did() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, start=500, seen=32_000, console=Console(file=stream, width=110), clock=clock) as progress:
        clock.now += 10
        progress.update(600, 38_400, {})
    assert stream.getvalue().startswith("step 600/1000 · 640 img/s · 0:40 left")
