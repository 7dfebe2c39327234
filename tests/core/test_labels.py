"""What a label can be asked to be, and how the rest is drawn as the data has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparring.core.adversarial import AdversarialGame
from sparring.core.game import DataSpec, Game
from sparring.core.labels import Labels
from sparring.errors import UserError

torch.set_num_threads(1)

CLASSES = Labels(("cat", "dog", "a=b"), counts=(1, 2, 3))
# hat and scarf exclude each other; glasses go with hats.
ROWS = [[1.0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
ATTRIBUTES = DataSpec((1, 8, 8), ("hat", "scarf", "glasses"), 6, {"label_kind": "attributes", "label_rows": ROWS})
UNITS = {"label_mean": [30.0, 1.5], "label_deviation": [10.0, 0.5], "label_low": [10.0, 0.5], "label_high": [60.0, 3.0]}
VALUES = DataSpec(
    (1, 8, 8), ("age", "height"), 4,
    {"label_kind": "values", "label_rows": [[0.0, 0], [1, 1], [-1, -1], [0, 1]], **UNITS},
)  # fmt: skip


def labels(spec: DataSpec) -> Labels:
    found = Labels.of(spec)
    assert found is not None
    return found


def drawn(spec: DataSpec, wish: Any, count: int = 400) -> torch.Tensor:
    asked = labels(spec).ask(wish).expand(count, -1)
    return labels(spec).draw_rows(count, asked, torch.device("cpu"), torch.Generator().manual_seed(0))


def test_a_class_is_asked_for_by_name_and_its_mixture_by_shares() -> None:
    assert CLASSES.ask("dog").item() == 1 and CLASSES.ask("a=b").item() == 2
    assert CLASSES.ask("cat=0.25,dog=0.75").tolist() == [0.25, 0.75, 0]
    assert CLASSES.ask({"cat": 0.25, "dog": 0.75}).tolist() == [0.25, 0.75, 0]


@pytest.mark.parametrize("wish", ["hat", "hat=1", {"hat": 1}])
def test_an_attribute_that_is_not_asked_for_is_left_to_the_data(wish: Any) -> None:
    label = drawn(ATTRIBUTES, wish)
    assert (label[:, 0] == 1).all() and (label[:, 1] == 0).all(), "no one wears hat and scarf"
    assert label[:, 2].mean() == pytest.approx(2 / 3, abs=0.08)


def test_what_the_data_never_has_together_can_be_asked_for() -> None:
    label = drawn(ATTRIBUTES, "hat=1,scarf=1")
    assert (label[:, :2] == 1).all()
    assert label[:, 2].mean() == pytest.approx(2 / 6, abs=0.08)


def test_values_are_asked_for_and_shown_in_the_data_s_units() -> None:
    assert labels(VALUES).ask("age=40,height=1").tolist() == [1, -1]
    assert labels(VALUES).units(torch.tensor([[1.0, -1]])).tolist() == [[40, 1]]
    assert (drawn(VALUES, "age=40")[:, 0] == 1).all()


def test_each_sample_of_a_batch_may_ask_for_something_else() -> None:
    nan = float("nan")
    asked = torch.tensor([[1.0, nan, nan], [nan, 1, nan]]).repeat(50, 1)
    label = labels(ATTRIBUTES).draw_rows(100, asked, torch.device("cpu"))
    assert (label[0::2, 0] == 1).all() and (label[1::2, 1] == 1).all() and (label[0::2, 1] == 0).all()


@pytest.mark.parametrize(
    ("of", "wish", "message"),
    [
        (CLASSES, "dgo", r"unknown label 'dgo' \(did you mean 'dog'\?\); there are cat, dog, a=b"),
        (CLASSES, "cat=0.5,dog=0.2", "sum to 0.7; they must sum to 1"),
        (CLASSES, "cat=1.5,dog=-0.5", "it must be from 0 to 1"),
        (labels(ATTRIBUTES), "hta=1", r"unknown attribute 'hta' \(did you mean 'hat'\?\)"),
        (labels(ATTRIBUTES), "hat=2", "--label hat=2: it must be from 0 to 1"),
        (labels(ATTRIBUTES), "hat=yes", "'yes' is no number"),
        (labels(ATTRIBUTES), "hat=nan", "it must be from 0 to 1"),
        (labels(VALUES), "age", "says no number; write age=NUMBER"),
        (labels(VALUES), "age=200", "--label age=200: the data's are from 10 to 60"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(of: Labels, wish: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        of.ask(wish)
    assert "\n" not in str(caught.value)


def test_a_sheet_has_a_row_a_class_an_attribute_and_a_step_of_a_value() -> None:
    label, rows, captions = CLASSES.sheet(9)
    assert label.tolist() == rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and captions == ["cat", "dog", "a=b"]
    label, rows, captions = labels(ATTRIBUTES).sheet(6)
    assert captions == ["hat", "scarf", "glasses"] and rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(label[number, row] == 1 for number, row in enumerate(rows.tolist()))
    label, rows, captions = labels(VALUES).sheet(16)
    assert len(label) == 16 and captions[0] == "age 10" and captions[7] == "age 60" and captions[8] == "height 0.5"
    assert label[7].tolist() == [3, 0] and label[0].tolist() == [-2, 0]


def test_a_specification_without_rows_draws_each_attribute_as_often_as_the_data_has_it() -> None:
    shared = AdversarialGame.spec_to_share(
        DataSpec(
            (1, 8, 8), ("hat", "scarf"), 6, {"label_kind": "attributes", "label_rows": ROWS, "label_mean": [0.9, 0.1]}
        )
    )
    assert "label_rows" not in shared.extra
    assert labels(shared).rows.mean(0).tolist() == pytest.approx([0.9, 0.1], abs=0.05)


def test_a_game_of_one_s_own_is_asked_by_the_names_of_its_conditions() -> None:
    class Own(Game):
        @property
        def conditions(self) -> list[str]:
            return ["up", "down"]

    asked = Own().labels
    assert asked is not None and asked.ask("down").item() == 1
