"""The table of measures: each gives the figures that it names, and they point where it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.metrics.catalogue import MEASURES
from sparring.metrics.meter import Meter

torch.set_num_threads(1)

CLASSES, WIDTH = 4, 6
CENTRES = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(99)) * 4


class Given:
    """Samples that bring their features along."""

    name, digest, resizer = "given", "given", "none"
    classes = ("a", "b", "c", "d")

    def __call__(self, samples: Batch) -> Batch:
        features = samples["data"]
        return Batch(features=features, logits=-torch.cdist(features, CENTRES).square())


def draw(
    count: int,
    seed: int,
    *,
    noise: float = 0.0,
    modes: int = CLASSES,
    mixed_up: bool = False,
    copies: Tensor | None = None,
) -> Batch:
    """Points around as many centres, with their labels."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % modes
    data = CENTRES[label] + torch.randn(count, WIDTH, generator=rng) + noise * torch.randn(count, WIDTH, generator=rng)
    if copies is not None:
        data[: len(copies)] = copies
    if mixed_up:
        label = label[torch.randperm(count, generator=rng)]
    return Batch(data=data, label=label)


REAL = draw(300, 0)
GOOD = draw(300, 1)
# What each figure is there to see.
WORSE = {
    "recall": draw(300, 2, modes=2),
    "coverage": draw(300, 2, modes=2),
    "vendi": draw(300, 2, modes=1),
    "modes": draw(300, 2, modes=3),
    "reverse_kl": draw(300, 2, modes=2),
    "inception_score": draw(300, 2, modes=1),
    "conditional_accuracy": draw(300, 2, mixed_up=True),
    "authenticity": draw(300, 2, copies=REAL["data"][:150]),
    "copies": draw(300, 2, copies=REAL["data"][:150]),
}
NOISY = draw(300, 2, noise=3.0)
FIGURES = [(name, figure) for name, measure in MEASURES.items() for figure in measure.figures]


@pytest.fixture(scope="module")
def meter() -> Meter:
    return Meter(Given(), MEASURES, REAL)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_the_figures_that_it_names(meter: Meter, name: str) -> None:
    values = meter.values(GOOD, name)
    assert list(values) == list(MEASURES[name].figures)
    assert all(math.isfinite(value.number) for value in values.values())
    assert name in meter.able(meter.describe(GOOD))


@pytest.mark.parametrize(("name", "figure"), FIGURES)
def test_a_figure_is_better_for_samples_like_the_data_than_for_worse_ones(meter: Meter, name: str, figure: str) -> None:
    good, bad = (meter.values(fake, name)[figure].number for fake in (GOOD, WORSE.get(figure, NOISY)))
    assert good > bad if MEASURES[name].figures[figure] else good < bad


@pytest.mark.parametrize("name", MEASURES)
def test_an_interval_holds_the_figure_and_stays_within_what_it_can_be(meter: Meter, name: str) -> None:
    for figure in meter.figures(GOOD, name, resamples=10).values():
        assert figure.interval is not None
        low, high = figure.interval
        least, most = MEASURES[name].within
        assert least <= low <= figure.value <= high <= most


def test_what_has_a_floor_or_a_counterpart_says_it(meter: Meter) -> None:
    assert meter.values(GOOD, "modes")["reverse_kl"].facts["floor"] == pytest.approx((CLASSES - 1) / 600, rel=0.3)
    for name, figure in (("vendi", "vendi"), ("inception_score", "inception_score"), ("memorisation", "authenticity")):
        value = meter.values(GOOD, name)[figure]
        assert value.number == pytest.approx(value.facts["of_real"], rel=0.15)


def test_figures_by_class_leave_out_rare_ones_and_have_no_mean_where_all_are(meter: Meter) -> None:
    assert list(meter.values(GOOD, "class_fid")["class_fid"].facts["by_class"]) == ["0", "1", "2", "3"]
    assert list(meter.values(draw(300, 1, modes=2), "class_fid")["class_fid"].facts["by_class"]) == ["0", "1"]
    assert meter.values(draw(40, 1), "class_fid") == {}
    assert meter.figures(draw(40, 1), "class_fid") == {}


def test_the_usual_measures_need_nothing_but_samples_and_labels() -> None:
    usual = [measure for measure in MEASURES.values() if measure.usual]
    assert usual and all(set(each.needs) <= {"features", "class_logits", "label"} for each in usual)


def test_classes_are_held_against_the_datas_own_frequencies() -> None:
    uneven = torch.cat([draw(400, 5)["data"], draw(400, 6, modes=1)["data"]])
    alike = torch.cat([draw(400, 7)["data"], draw(400, 8, modes=1)["data"]])
    value = Meter(Given(), MEASURES, Batch(data=uneven)).values(Batch(data=alike), "modes")["reverse_kl"]
    assert value.number < 0.01  # against equal frequencies it would be about 0.3
