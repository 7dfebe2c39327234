from __future__ import annotations

import math
from typing import Any

import pytest

from sparring.core.schedules import SCHEDULES, anneal, balanced_counts, learning_rate, turn_counts
from sparring.errors import UserError
from sparring.recipe import Turns


def asked(**options: int) -> Turns:
    return Turns.model_validate(options)


@pytest.mark.parametrize(
    ("spec", "points"),
    [
        ({"name": "constant"}, {0: 1, 99: 1, 1000: 1}),
        ({}, {0: 1, 50: 1}),
        ({"name": "linear"}, {0: 1, 50: 0.5, 99: 0.01, 100: 0, 150: 0}),
        ({"name": "linear", "start": 0.5, "final": 0.2}, {0: 1, 50: 1, 75: 0.6, 100: 0.2, 999: 0.2}),
        ({"name": "linear", "start": 1.0}, {0: 1, 99: 1, 100: 1}),
        ({"name": "cosine"}, {0: 1, 25: 0.5 + math.sqrt(0.125), 50: 0.5, 100: 0, 200: 0}),
        ({"name": "cosine", "start": 0.2, "final": 0.1}, {20: 1, 60: 0.55, 100: 0.1}),
        ({"name": "step", "every": 10}, {0: 1, 9: 1, 10: 0.5, 20: 0.25, 95: 0.5**9}),
        ({"name": "step", "every": 50, "factor": 0.1}, {49: 1, 50: 0.1, 100: 0.01}),
        ({"name": "linear", "steps": 10}, {5: 0.5, 10: 0, 60: 0}),
    ],
)
def test_schedule_passes_its_corner_points(spec: dict[str, Any], points: dict[int, float]) -> None:
    assert {step: learning_rate(spec, step, 100) for step in points} == pytest.approx(points)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_from_its_first_fraction_in_every_schedule(name: str) -> None:
    options = {"every": 1000} if name == "step" else {"start": 0.9} if name in {"linear", "cosine"} else {}
    spec = {"name": name, "warmup": 4, **options}
    assert [learning_rate(spec, step, 100) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedule_over_an_unknown_length_asks_for_steps(name: str) -> None:
    with pytest.raises(UserError, match=r"give train\.steps"):
        learning_rate({"name": name}, 0, None)
    assert learning_rate({"name": name, "steps": 10}, 10, None) == pytest.approx(0)


def test_schedules_without_an_end_need_no_length() -> None:
    assert learning_rate({"name": "constant"}, 7, None) == 1
    assert learning_rate({"name": "step", "every": 5}, 7, None) == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "cosin"}, "did you mean 'cosine'"),
        ({"name": "linear", "strat": 0.5}, "did you mean 'start'"),
        ({"name": "step"}, r"train\.schedule\.every' is missing"),
        ({"name": "step", "every": 0}, "at least 1 step"),
        ({"name": "linear", "start": 50}, "between 0 and 1"),
        ({"name": "linear", "steps": 0}, "at least 1 step"),
    ],
)
def test_mistakes_in_the_recipe_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        learning_rate(spec, 60, 100)


def test_a_run_of_no_steps_has_a_learning_rate() -> None:
    assert learning_rate({"name": "linear"}, 0, 0) == 1


def test_turns_stay_where_no_final_counts_are_given() -> None:
    turns = asked(discriminator=5, generator=2)
    assert {turn_counts(turns, step, None) for step in (0, 10, 1000)} == {(5, 2)}


def test_turns_move_in_a_line_and_hold_their_final_counts() -> None:
    turns = asked(discriminator=5, generator=1, final_discriminator=1, final_generator=3, over=40)
    counts = [turn_counts(turns, step, 1000) for step in (0, 4, 5, 10, 20, 30, 36, 40, 900)]
    assert counts == [(5, 1), (5, 1), (5, 1), (4, 2), (3, 2), (2, 3), (1, 3), (1, 3), (1, 3)]


def test_turns_move_over_the_whole_run_by_default() -> None:
    turns = asked(discriminator=1, final_discriminator=3)
    assert [turn_counts(turns, step, 100)[0] for step in (0, 24, 25, 74, 75, 100)] == [1, 1, 2, 2, 3, 3]
    with pytest.raises(UserError, match=r"train\.turns\.over"):
        turn_counts(turns, 0, None)


@pytest.mark.parametrize(
    ("accuracy", "counts"), [(1.0, (1, 2)), (0.91, (1, 2)), (0.9, (1, 1)), (0.6, (1, 1)), (0.59, (2, 1)), (0, (2, 1))]
)
def test_the_losing_player_plays_twice(accuracy: float, counts: tuple[int, int]) -> None:
    assert balanced_counts(accuracy) == counts


def test_annealing_is_a_line_that_holds_its_ends() -> None:
    assert [anneal(2.0, 1.0, step, 10) for step in (-1, 0, 5, 10, 20)] == [2.0, 2.0, 1.5, 1.0, 1.0]
    assert anneal(2.0, 1.0, 0, 0) == 1.0
