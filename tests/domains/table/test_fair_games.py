"""Games whose samples favour groups alike, and how that is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from planted import built, drawn, gap, planted, points, taught
from sparring.core.game import Batch
from sparring.domains.table.games.fair import FairGAN, mistaken, parity
from sparring.domains.table.metrics.fairness import fairness
from sparring.domains.table.metrics.fairness import parity as parity_of
from sparring.errors import UserError

torch.set_num_threads(1)


def test_parity_is_the_gap_between_the_shares_of_groups_whatever_their_sizes_and_agrees_with_fairlearn() -> None:
    favour = torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    hot = torch.nn.functional.one_hot(group, 3).float()  # of the third group there is no row
    assert float(parity(favour, hot)) == pytest.approx(3 / 4 - 1 / 6)
    assert parity_of(favour.long().numpy(), group.numpy()) == pytest.approx(3 / 4 - 1 / 6)
    assert float(parity(torch.cat([favour] * 9), torch.cat([hot] * 9))) == pytest.approx(3 / 4 - 1 / 6)
    soft = favour.clone().requires_grad_()
    parity(soft, hot).backward()
    assert soft.grad is not None and soft.grad[0] == pytest.approx(1 / 4) and soft.grad[5] == pytest.approx(-1 / 6)


def test_of_several_categories_parity_is_that_of_the_one_that_groups_differ_in_most() -> None:
    favour, group = np.array([0, 1, 2, 2, 0, 0, 1, 2]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert parity_of(favour, group) == pytest.approx(0.25)
    favour[0] = 2
    assert parity_of(favour, group) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["tabfairgan", "fairgan"])
def test_a_term_of_fairness_closes_the_gap_that_the_same_game_without_it_learns(name: str, folder: Path) -> None:
    term = {"tabfairgan": "loss.parity", "fairgan": "loss.second"}[name]
    gaps = {}
    for weight in (0, 10):
        game, data = built(name, folder, f"{term}={weight}", "model.fair_from=45", "loss.moments=20")
        assert isinstance(game, FairGAN)
        gaps[weight] = gap(drawn(taught(game, data, 90), data, 3000))
    assert gaps[0] > 0.25 and gaps[10] < 0.6 * gaps[0], gaps


def test_the_second_discriminator_is_mistaken_where_it_takes_rows_for_those_of_another_group() -> None:
    told = torch.tensor([[2.0, 0, 0], [0, 3, 0]])
    shares, group = told.softmax(1), torch.tensor([1, 1])
    expected = -((1 - shares[0, 1]).log() + (1 - shares[1, 1]).log()) / 2
    assert float(mistaken(told, group)) == pytest.approx(float(expected))


def test_the_fair_phase_begins_when_it_is_to_and_only_then_does_the_second_discriminator_play(folder: Path) -> None:
    game, data = built("fairgan", folder, "loss.parity=1")
    assert "second" not in [turn.player for turn in game.turns(2)]
    assert [turn.player for turn in game.turns(3)] == ["discriminator", "second", "generator"]
    for step, terms in ((2, set()), (3, {"parity", "second"})):
        batch = data.batch(torch.arange(64))
        for turn in game.turns(step):
            losses = game.loss(turn, batch, step)
        assert {"parity", "second"} & set(losses) == terms
    half = built("tabfairgan", folder, "model.fair_from=null", "train.steps=80")[0]
    assert half.fair_from == 40


def test_no_row_is_asked_for_its_group_and_its_favour_at_once(folder: Path) -> None:
    game, data = built("tabfairgan", folder, "model.several=1", "data.sampling=log_frequency")
    batch = data.batch(torch.arange(400))
    asked = game._asked(batch["data"], batch["asked"])
    columns = torch.stack([asked[:, game.asked_of == column].sum(1) for column in range(2)], 1)
    assert columns.sum(1).min() == 1 and columns.sum(1).max() == 1
    assert torch.equal(asked[torch.arange(400), batch["asked"]], torch.ones(400))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("data.protected=null", "data.protected"),
        ("data.protected=sexes", "did you mean 'sex'"),
        ("data.protected=pay", "target, too"),
        ("model.desired=hig", "did you mean 'high'"),
        ("data.target=age", "target of categories"),
    ],
)
def test_a_fair_game_says_in_a_line_what_it_must_be_told(more: str, said: str, folder: Path) -> None:
    with pytest.raises(UserError, match=said):
        built("tabfairgan", folder, more)


def test_a_model_is_as_unfair_on_real_rows_as_what_it_learnt_from() -> None:
    frame = planted(2000)
    fair = frame.assign(pay=np.random.default_rng(1).permutation(frame["pay"]))
    space, (unfair, mixed, test) = points(frame, fair, planted(2000).iloc[::-1].reset_index(drop=True))
    sex, pay = (next(cell for cell in space.cells if cell.column.name == name) for name in ("sex", "pay"))
    learnt, kept = (fairness(side, test, space.cells, pay, sex, 0) for side in (unfair, mixed))
    assert learnt.parity > 0.5 and learnt.accuracy > 0.75 and learnt.odds > 0.2
    assert kept.parity < 0.15 and kept.accuracy < learnt.accuracy - 0.1


def test_the_fair_phase_leaves_out_how_often_group_and_target_meet_on_both_sides(folder: Path) -> None:
    game, data = built("tabfairgan", folder)
    rows, batch = data.batch(torch.arange(64))["data"], Batch()
    batch.memo["fair"] = True
    gap = game.moment_gap(torch.rand_like(rows), rows, slice(None), batch)
    group, target = game.protected.hot, game.target.hot
    assert not gap[group, target].any() and not gap[target, group].any()
    assert gap[group, group].all() and gap[target, target].all()
