"""Progress: what a training shows on the terminal while it runs.

A bar on a terminal, a plain line every ten seconds in a log file. Both go to standard error, are throttled by the
clock, and have no influence on the training: where they cannot be shown (a closed pipe, a lost connection) they stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

SECONDS_PER_FRAME = 0.1
SECONDS_PER_LINE = 10.0
SMOOTHING = 20.0  # seconds over which speeds are averaged


class Progress:
    """Shows steps, speed, time left and losses; a context manager.

    total: the step that the training ends with, or None where only time bounds it.
    minutes: how long the training may take, or None; bounds the bar where `total` is None.
    start, seen: steps done and samples seen before this process took over.
    unit: what a sample is called, e.g. img, row, clip.
    quiet: show no progress; notes are still printed.
    console, clock: for tests; standard error and the monotonic clock, in seconds.
    """

    def __init__(
        self,
        total: int | None,
        *,
        minutes: float | None = None,
        start: int = 0,
        seen: int = 0,
        unit: str = "img",
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.minutes, self.unit, self.quiet = total, minutes, unit, quiet
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._began = self._shown_at = clock()
        self._step, self._seen, self._losses = start, seen, ""
        self._speed, self._pace = _Rate(seen), _Rate(start)
        self._broken = False
        self._latest: tuple[int, int, Mapping[str, float]] | None = None
        self._bar = self._make_bar() if self._console.is_terminal and not quiet else None

    def __enter__(self) -> Progress:
        self._began = self._shown_at = self._clock()
        self._safely(self._bar.start if self._bar else None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._latest is not None:
            self._show(*self._latest)
        self._safely(self._bar.stop if self._bar else None)

    def begin(self, step: int, seen: int) -> None:
        """Say where this process takes over: what earlier ones did does not count as speed."""
        self._step = step
        self._speed, self._pace = _Rate(seen), _Rate(step)

    def update(self, step: int, seen: int, losses: Mapping[str, float]) -> None:
        """Say how far the training is. Cheap: most calls only look at the clock, and `losses` is read when shown.

        step: steps done; seen: samples seen, both over the whole run; losses: the newest figure by name.
        """
        self._latest = (step, seen, losses)
        if self._clock() - self._shown_at >= (SECONDS_PER_FRAME if self._bar else SECONDS_PER_LINE):
            self._show(step, seen, losses)

    def note(self, text: str) -> None:
        """Print a line that the user should see, above the bar."""
        self._safely(lambda: self._console.print(text, markup=False, highlight=False, soft_wrap=True))

    def _show(self, step: int, seen: int, losses: Mapping[str, float]) -> None:
        now = self._clock()
        elapsed = now - self._shown_at
        self._shown_at, self._latest = now, None
        self._speed.move(seen, elapsed)
        self._pace.move(step, elapsed)
        self._step = step
        self._losses = " · ".join(f"{name} {_figure(value)}" for name, value in losses.items())
        if self.quiet:
            return
        if self._bar is None:
            parts = [self._steps(), self._speed_text(), self._losses, self._time()]
            self.note(" · ".join(part for part in parts if part))
        else:
            self._safely(self._draw)

    def _draw(self) -> None:
        assert self._bar is not None
        completed, total = float(self._step), self.total
        if total is None and self.minutes is not None:
            completed, total = self._elapsed(), round(60 * self.minutes)
        self._bar.update(
            self._bar.task_ids[0],
            completed=completed,
            total=total,
            refresh=True,
            steps=self._steps(),
            facts=" · ".join(part for part in (self._speed_text(), self._time()) if part),
            losses=self._losses,
        )

    def _make_bar(self) -> Bar:
        bar = Bar(
            TextColumn("{task.fields[steps]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}", markup=False, style="bold"),
            _Losses(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=self._console,
            # Frames are drawn by `update`: a thread that redraws by itself would take turns with the training.
            auto_refresh=False,
            expand=True,
        )
        bar.add_task("", total=self.total, completed=self._step, steps=self._steps(), facts="", losses="")
        return bar

    def _steps(self) -> str:
        return f"step {self._step}" + (f"/{self.total}" if self.total is not None else "")

    def _speed_text(self) -> str:
        rate = self._speed.per_second
        return "" if rate is None else f"{rate:,.{0 if rate >= 10 else 1}f} {self.unit}/s"

    def _time(self) -> str:
        if self.total is None:
            bound = f" of {_clock_text(60 * self.minutes)}" if self.minutes is not None else ""
            return f"{_clock_text(self._elapsed())}{bound}"
        left = self.total - self._step
        if left <= 0:
            return f"{_clock_text(self._elapsed())} in all"
        rate = self._pace.per_second
        seconds = left / rate if rate else math.inf
        if self.minutes is not None:
            seconds = min(seconds, max(0.0, 60 * self.minutes - self._elapsed()))
        return f"{_clock_text(seconds)} left" if math.isfinite(seconds) else ""

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _safely(self, show: Callable[[], None] | None) -> None:
        """Show something; a terminal that went away is no reason to stop."""
        if show is None or self._broken:
            return
        try:
            show()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._broken = True


@contextmanager
def reading_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a count has come: yields `(done, total) -> None`. Silent in a log, and where it is soon over."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Bar(TextColumn(text), BarColumn(bar_width=24), MofNCompleteColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Rate:
    """A counter's speed, averaged over the last `SMOOTHING` seconds with exponentially falling weight."""

    def __init__(self, count: float) -> None:
        self._count = count
        self._moved = self._elapsed = 0.0

    def move(self, count: float, seconds: float) -> None:
        # Counts and seconds fade alike, so that the average is right from the first interval on.
        fade = math.exp(-seconds / SMOOTHING)
        self._moved = fade * self._moved + count - self._count
        self._elapsed = fade * self._elapsed + seconds
        self._count = count

    @property
    def per_second(self) -> float | None:
        return self._moved / self._elapsed if self._elapsed > 0 and self._moved > 0 else None


class _Losses(ProgressColumn):
    """The losses, cut where the terminal ends."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["losses"], style="dim", no_wrap=True, overflow="ellipsis")


def _figure(value: float) -> str:
    value = float(value)
    return f"{value:.2f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.2g}"


def _clock_text(seconds: float) -> str:
    """`0:03`, `12:40`, `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
