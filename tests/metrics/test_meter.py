"""The meter: what can be measured, what it is given, and what stands beside a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.metrics.meter import Measure, Meter, Value, choose_measures, measure_of, with_own

torch.set_num_threads(1)


class Doubled:
    """A space of twice the values."""

    name, digest, resizer = "doubled (2)", "d", "none"

    def __call__(self, samples: Batch) -> Batch:
        return Batch(features=2 * samples["data"])


MEASURES = {
    "gap": Measure(
        {"gap": False, "spread": True},
        lambda real, fake, seed: {
            "gap": float((fake["features"].mean() - real["features"].mean()).abs()),
            "spread": Value(float(fake["features"].std()), {"of_real": float(real["features"].std())}),
        },
        usual=True,
    ),
    "raw": Measure(
        {"raw": False}, lambda real, fake, seed: {"raw": float(fake["data"].mean())}, needs=("data",), most=5
    ),
    "judged": Measure({"judged": True}, lambda real, fake, seed: {"judged": 1.0}, needs=("label",)),
    "paired": Measure({"paired": True}, lambda real, fake, seed: {"paired": 1.0}, needs=("data", "pairs")),
}


def samples(count: int, seed: int) -> Batch:
    return Batch(data=torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture
def meter() -> Meter:
    return Meter(Doubled(), MEASURES, samples(30, 0), seed=7, facts={"reference": "all 30"})


def test_a_figure_carries_everything_that_comparing_it_needs(meter: Meter) -> None:
    found = meter.figures(samples(20, 1), "gap")
    gap, spread = found["gap"], found["spread"]
    assert (gap.features, gap.real, gap.fake, gap.higher_is_better) == ("doubled (2)", 30, 20, False)
    assert gap.interval is not None and gap.interval[0] <= gap.value <= gap.interval[1]
    assert gap.facts == {"seed": 7, "resizer": "none", "reference": "all 30", "resamples": 100}
    assert spread.higher_is_better and spread.facts["of_real"] == pytest.approx(float(meter.real["features"].std()))
    plain = gap.plain()
    assert plain["interval"] == list(gap.interval) and plain["resizer"] == "none" and "facts" not in plain


def test_only_the_figures_that_are_wanted_come_back(meter: Meter) -> None:
    assert list(meter.figures(samples(20, 1), "gap", wanted=["spread"])) == ["spread"]


def test_without_time_for_halves_there_is_a_figure_without_an_interval(meter: Meter) -> None:
    figure = meter.figures(samples(20, 1), "gap", seconds=0.0)["gap"]
    assert figure.interval is None and figure.facts["resamples"] == 0


def test_a_measure_that_trains_has_an_interval_of_few_halves() -> None:
    seldom = {"gap": replace(MEASURES["gap"], halves=10)}
    found = Meter(Doubled(), seldom, samples(30, 0)).figures(samples(20, 1), "gap")["gap"]
    assert found.interval is not None and found.facts["resamples"] == 10


def test_a_measure_of_samples_sees_the_first_ones_only(meter: Meter) -> None:
    fake = samples(20, 1)
    figure = meter.figures(fake, "raw")["raw"]
    assert figure.value == pytest.approx(float(fake["data"][:5].mean()))
    assert (figure.real, figure.fake, figure.features) == (5, 5, "samples")


def test_samples_may_be_kept_of_the_first_only(meter: Meter) -> None:
    fake = meter.describe(samples(20, 1))
    fake["data"] = fake["data"][:3]
    assert meter.figures(fake, "raw")["raw"].fake == 3
    assert meter.figures(fake, "gap")["gap"].fake == 20


def test_a_meter_knows_what_it_is_able_to_measure(meter: Meter) -> None:
    assert meter.able(meter.describe(samples(20, 1))) == ["gap", "raw"]
    assert meter.able(meter.describe(samples(20, 1)), paired=True) == ["gap", "raw", "paired"]


def test_logits_are_of_the_datas_classes_only_where_the_space_knows_them() -> None:
    class Judge(Doubled):
        classes: tuple[str, ...] = ("a", "b")

        def __call__(self, samples: Batch) -> Batch:
            return Batch(features=samples["data"], logits=samples["data"])

    judge = Judge()
    assert "class_logits" in Meter(judge, MEASURES, samples(5, 0)).real
    judge.classes = ()
    assert "class_logits" not in Meter(judge, MEASURES, samples(5, 0)).real


def test_figures_are_chosen_by_their_own_name_by_their_measures_or_all() -> None:
    assert choose_measures(MEASURES, None) == {"gap": ["gap", "spread"]}
    assert choose_measures(MEASURES, "spread, raw") == {"gap": ["spread"], "raw": ["raw"]}
    assert choose_measures(MEASURES, ["spread", "gap"]) == {"gap": ["spread", "gap"]}
    assert list(choose_measures(MEASURES, "all")) == list(MEASURES)
    with pytest.raises(UserError, match=r"unknown metric 'sprad' \(did you mean 'spread'\?\)"):
        choose_measures(MEASURES, "sprad")
    with pytest.raises(UserError, match="no metric is named"):
        choose_measures(MEASURES, ",")


def furthest(real: torch.Tensor, fake: torch.Tensor) -> float:
    return float(torch.cdist(real, fake).max())


def test_a_function_of_the_users_own_is_a_metric_too() -> None:
    name = f"{__name__}:furthest"
    own = with_own(MEASURES, [name])
    assert measure_of(own, name) == name
    meter = Meter(Doubled(), own, samples(10, 0))
    fake = samples(10, 1)
    assert meter.values(fake, name)[name].number == pytest.approx(
        furthest(2 * samples(10, 0)["data"], 2 * fake["data"])
    )
    with pytest.raises(UserError, match="cannot load metric"):
        with_own(MEASURES, ["nowhere:furthest"])
