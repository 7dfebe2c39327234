"""Claims about the report page and the curves."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparring.core.game import DataSpec
from sparring.files import write_whole
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.curves import BUCKETS, _condense, draw_curves
from sparring.training.report import write_report


def _lines(count: int = 60) -> list[dict[str, Any]]:
    wave = np.sin(np.arange(count) / 5)
    return [
        {
            "step": 20 * index,
            "seconds": index,
            "loss/discriminator/adversarial": 1.2 + 0.1 * wave[index],
            "loss/discriminator/r1": 0.002,
            "loss/generator/adversarial": "nan" if index == 30 else 1.5 - 0.1 * wave[index],
            "watch/discriminator/real_logit": 0.5,
            "watch/discriminator/fake_logit": -0.5,
            "watch/discriminator/accuracy": 0.8,
            "gradient/generator": 10.0 ** (wave[index] * 2),
            **({"metric/sliced_wasserstein": 1 / (index + 1)} if index % 20 == 0 else {}),
        }
        for index in range(count)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    recipe = Recipe(name="dcgan")
    run = Run.create(tmp_path / "run", recipe, DataSpec((1, 8, 8), ("zero", "one"), 1797), "fingerprint")
    run.samples.mkdir()
    for step in range(0, 2001, 100):
        Image.new("L", (402, 402), step % 256).save(run.samples / f"step-{step:08d}.png")
    return run


class Page(HTMLParser):
    """The elements of a page and its visible words."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(run.report.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def test_report_shows_the_key_figures(run: Run) -> None:
    write_report(
        run,
        {
            "steps": 20_000,
            "seconds": 4211.3,
            "device": "cpu",
            "best": 17_000,
            "seed": 0,
            "parameters": {"generator": 3_576_704},
            "data": {"source": "digits", "count": 1797, "shape": [1, 8, 8], "broken": [["a.png", "cut short"]]},
            "losses": {"loss/generator/adversarial": 1.44561, "loss/discriminator/r1": math.nan},
            "metrics": {"fid": 3.25},
            "evaluation": {"features": "classifier 0123", "share": 0.02},
            "incidents": ["step 40: NaN; went back to step 20"],
        },
    )
    words = Page(run).words
    for shown in (
        "dcgan",
        "20,000",
        "1 h 10 min",
        "step 17,000",
        "3,576,704",
        "1,797",
        "1 × 8 × 8",
        "a.png",
        "cut short",
    ):
        assert shown in words
    for shown in ("fid", "3.25", "classifier 0123", "2.0% of the time"):
        assert shown in words
    for shown in ("generator · adversarial", "1.446", "nan", "went back to step 20", "batch_size: 64", "torch 2."):
        assert shown in words


def test_report_of_an_empty_summary_is_a_page(run: Run) -> None:
    write_report(run, {})
    assert Page(run).words.strip().startswith("dcgan")


def test_report_loads_nothing_and_runs_nothing(run: Run) -> None:
    write_whole(run.metrics_file, '{"step": 1, "seconds": 1, "loss/generator": 1.0}\n')
    write_report(run, {"steps": 1})
    page = Page(run)
    assert "script" not in page.tags and "link" not in page.tags
    assert "http://" not in run.report.read_text() and "https://" not in run.report.read_text()
    sources = [value or "" for name, value in page.attributes if name in {"src", "href"}]
    assert sources and all(source.startswith("data:image/") for source in sources)


def test_report_escapes_hostile_names(run: Run) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&"
    clean = _tags_with(run, "plain")
    assert _tags_with(run, hostile) == clean
    assert hostile in Page(run).words


def _tags_with(run: Run, name: str) -> list[str]:
    data = {"source": name, "count": 1, "shape": [1], "classes": [name], "broken": [[name, name]]}
    named = {name: 1.0}
    write_report(
        run,
        {"device": name, "precision": name, "seed": name, "best": name, "parameters": {name: 3}, "data": data}
        | {"losses": named, "metrics": named, "incidents": [name], "notes": [name]},
    )
    return Page(run).tags


def test_report_takes_file_names_that_are_not_unicode(run: Run) -> None:
    write_report(run, {"data": {"broken": [["caf\udce9.png", "empty"]]}})
    assert "caf\\udce9.png" in run.report.read_text(encoding="utf-8")


def test_report_shows_the_newest_sheet_and_eight_over_time(run: Run) -> None:
    write_report(run, {})
    page = run.report.read_text()
    captions = re.findall(r"<figcaption>step ([\d,]+)</figcaption>", page)
    assert "Samples at step 2,000" in page
    assert len(captions) == 8
    assert (captions[0], captions[-1]) == ("0", "2,000")


def test_report_passes_over_a_damaged_sheet(run: Run) -> None:
    (run.samples / "step-00002100.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_report(run, {})
    assert "Samples at step 2,000" in run.report.read_text()


def test_curves_show_each_kind_of_figure(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    draw_curves(_lines(), path, "dcgan · $5 and $7")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    ink = (pixels < 250).any(2)
    assert 0.005 < ink.mean() < 0.5
    # Losses take the first row; six further panels take three, so every quarter of the height holds something.
    assert all(quarter.any() for quarter in np.array_split(ink, 4))
    assert _near(pixels, (0xD0, 0x02, 0x1B)) > 5  # the step whose loss was NaN


def test_curves_without_a_broken_step_have_no_mark(tmp_path: Path) -> None:
    draw_curves(_lines(30), tmp_path / "curves.png", "")
    assert _near(np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")), (0xD0, 0x02, 0x1B)) == 0


def _near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(2) < 8).sum())


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 1, "seconds": 1, "loss/generator": 0.5}],
        [{"step": 1, "seconds": 1, "loss/generator": "inf"}],
        [{"step": step, "seconds": 1, "loss/generator": 0.0, "gradient/generator": 0.0} for step in range(3)],
    ],
    ids=["nothing", "one point", "nothing finite", "all zero"],
)
def test_curves_of_very_short_runs_are_pictures(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    draw_curves(lines, tmp_path / "curves.png", "short")
    Image.open(tmp_path / "curves.png").load()


def test_long_curves_are_thinned_and_keep_their_spikes() -> None:
    steps, values = np.arange(100_000.0), np.zeros(100_000)
    values[54_321] = 9.0
    raw_steps, raw, mean_steps, mean = _condense(steps, values)
    assert len(raw_steps) == len(raw) == 2 * BUCKETS
    assert len(mean_steps) == len(mean) == BUCKETS
    assert raw.max() == 9.0
