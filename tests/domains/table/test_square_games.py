"""TableGAN and CTAB-GAN+: rows as squares, and each of their terms does what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from planted import built, drawn, gap, planted, taught
from sparring.core.game import Batch, Turn
from sparring.domains import open_domain
from sparring.domains.table.cells import Cells
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.domains.table.games.ctabgan import CTABGAN
from sparring.domains.table.games.information import Running, information, moments_of
from sparring.domains.table.games.tablegan import Line, TableGAN
from sparring.domains.table.rows import values_of
from sparring.domains.table.squares import SquareDiscriminator, SquareGenerator, side_of, to_rows, to_square
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)


def test_rows_are_laid_out_line_by_line_and_come_back_and_what_is_left_of_the_square_is_zero() -> None:
    rows = torch.arange(1.0, 39).reshape(2, 19)
    squares = to_square(rows)
    assert squares.shape == (2, 1, 8, 8) and squares[0, 0, 2].tolist() == [17, 18, 19, 0, 0, 0, 0, 0]
    assert torch.equal(to_rows(squares, 19), rows) and squares.sum() == rows.sum()
    assert [side_of(size) for size in (1, 16, 17, 64, 65)] == [4, 4, 8, 8, 12]


@pytest.mark.parametrize("size", [1, 16, 30, 70])
def test_square_networks_fit_every_width_and_judge_a_row_by_all_of_its_numbers(size: int) -> None:
    torch.manual_seed(0)
    rows = SquareGenerator(size, 3, 2, width=4)(torch.randn(5, 3), torch.ones(5, 2))
    assert rows.shape == (5, size)
    judge = SquareDiscriminator(size, torch.tensor([0, 0]), 1, width=4)
    given = rows.detach().requires_grad_()
    judge(given, torch.ones(5, 2)).sum().backward()
    assert given.grad is not None and (given.grad.abs().sum(0) > 0).all()
    alone = torch.cat([judge(row[None], torch.ones(1, 2)) for row in rows])
    assert torch.allclose(judge(rows, torch.ones(5, 2)), alone, atol=1e-5)


def test_the_critic_may_say_less_than_nothing(folder: Path) -> None:
    game, data = built("ctabgan-plus", folder)
    rows = data.batch(torch.arange(200))["data"]
    logits = game.discriminator(rows, torch.zeros(200, len(game.hot)))
    assert (logits < logits.mean()).any() and bool((torch.cat([logits, -logits]) < 0).any())
    game.discriminator.head.linear.bias.data -= logits.max() + 1
    assert (game.discriminator(rows, torch.zeros(200, len(game.hot))) < 0).all()


def test_the_information_loss_is_how_far_means_and_deviations_are_apart_less_a_margin() -> None:
    real = torch.tensor([[-1.0, 0], [1, 0]])
    fake = torch.tensor([[0.0, 4], [6, 4]])  # means (3, 4) away; deviations 1 and 3 of the first feature
    sides = moments_of(real), moments_of(fake)
    assert float(information(*sides)) == pytest.approx(5 + 2, abs=1e-4)
    assert float(information(*sides, (1.5, 0.5))) == pytest.approx(3.5 + 1.5, abs=1e-4)
    assert float(information(*sides, (6, 6))) == 0
    fake.requires_grad_()
    information(moments_of(real), moments_of(fake), (6, 6)).backward()
    assert fake.grad is not None and not fake.grad.any()  # within its margins nothing is held
    same = real.clone().requires_grad_()
    information(moments_of(real), moments_of(same)).backward()
    assert same.grad is not None and same.grad.isfinite().all()


def test_a_running_mean_begins_with_what_comes_and_passes_gradients_whole() -> None:
    running = Running(1, share=0.75)
    values = [running(torch.tensor([each])).item() for each in (4.0, 8.0, 0.0, 0.0, 0.0)]
    assert values == pytest.approx([4, 6, 4, 3, 2.25])
    figure = torch.tensor([1.0], requires_grad=True)
    running(figure).backward()
    assert figure.grad == 1


@pytest.mark.parametrize("name", ["tablegan", "ctabgan-plus"])
def test_the_information_loss_draws_the_features_of_samples_to_those_of_data(name: str, folder: Path) -> None:
    apart = {}
    for weight in (0, 30):
        off = ["loss.downstream=0", "loss.moments=0"] if name == "ctabgan-plus" else ["loss.classification=0"]
        game, data = built(name, folder, f"loss.information={weight}", *off)
        taught(game, data, 30).train()  # the discriminator stays: its features mean the same to the end
        rows = data.batch(torch.arange(400))
        label = game._asked(rows["data"], rows["asked"]) if name == "ctabgan-plus" else None
        real = rows["data"] if name == "ctabgan-plus" else game.line.of(rows["data"])
        sides = (game.discriminator.features(each, label) for each in (real, game.sample(400, label)))
        apart[weight] = float(information(*map(moments_of, sides)).detach())
    assert apart[30] < 0.8 * apart[0], apart


def test_a_downstream_loss_ties_the_target_of_samples_to_what_foretells_it_in_data(folder: Path) -> None:
    gaps = {}
    for weight in (0, 20):
        game, data = built("ctabgan-plus", folder, f"loss.downstream={weight}", "loss.moments=0", "loss.information=0")
        assert (game.classifier is not None) == bool(weight)
        gaps[weight] = gap(drawn(taught(game, data, 40), data))
    assert gaps[20] > gaps[0] + 0.15, gaps


def test_the_classifier_of_tablegan_moves_a_label_that_does_not_fit_towards_one_that_does(folder: Path) -> None:
    game, data = built("tablegan", folder)
    player = torch.optim.Adam(game.classifier.parameters(), 1e-2)
    for _ in range(80):
        player.zero_grad()
        game.loss(Turn("classifier"), data.batch(torch.randint(len(data), (64,))), 0).total.backward()
        player.step()
    line = game.line.of(data.batch(torch.arange(200), augment=False)["data"])
    target, sex = game.line.places[-1], game.line.places[0]
    assert game.classifier.place == target
    # Halfway between both, the loss falls towards `high` (the commoner, at −1) for men (at −1), and towards `low` for women.
    line[:, target] = 0
    line.requires_grad_()
    game.classifier.loss(line).backward()
    assert line.grad is not None
    slope, men = line.grad[:, target], line[:, sex] < 0
    assert slope[men].mean() > 0 > slope[~men].mean()


def test_a_model_of_a_target_of_numbers_wants_the_numbers_themselves(folder: Path) -> None:
    for column in ("age", "debt"):
        game, data = built("ctabgan-plus", folder, f"data.target={column}")
        rows = data.batch(torch.arange(300), augment=False)["data"]
        span = next(span for span in Cells(data.columns).spans if span.column.name == column)
        values, here = values_of(rows, span)
        wanted = game.classifier.wanted(rows).squeeze(1)[here].double()
        scaled = (values[here] - span.column.low).log1p() if span.column.log else values[here]
        assert game.loss(Turn("classifier"), Batch(data=rows), 0).total.isfinite()
        # The same up to one factor and one constant.
        assert np.corrcoef(wanted.numpy(), scaled.numpy())[0, 1] > 0.9999 and 0.5 < wanted.std() < 2


def test_rows_are_drawn_for_modes_of_numbers_as_well_and_users_ask_for_categories(folder: Path) -> None:
    game, data = built("ctabgan-plus", folder)
    assert isinstance(game, CTABGAN)
    batch = data.batch(torch.zeros(4000, dtype=torch.int64))
    own = batch["data"][:, game.hot]
    assert torch.equal(own[torch.arange(4000), batch["asked"]], torch.ones(4000))  # every row has what it was drawn by
    categories = len(game.labels.names)
    assert 0.4 < float((batch["asked"] >= categories).float().mean()) < 0.6  # two columns of four are numbers
    assert torch.allclose(game.frequencies.sum(), torch.tensor(4.0)) and len(game.hot) == len(game.frequencies)
    asked = game.labels.ask("sex=f,pay=high").expand(50, -1)
    frame = open_domain("table").knowing(data.spec).frame_of(game.eval().generate(50, condition=asked))  # type: ignore[attr-defined]
    assert (frame["sex"] == "f").all() and (frame["pay"] == "high").all()


def test_a_table_of_numbers_alone_is_drawn_for_their_modes(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=["x", "y"])
    frame.to_csv(tmp_path / "people.csv", index=False)
    game, data = built("ctabgan-plus", tmp_path)
    assert game.labels is None and game.classifier is None and game.conditional
    batch = data.batch(torch.arange(16))
    for turn in game.turns(0):
        assert game.loss(turn, batch, 0).total.isfinite()
    assert len(drawn(game.eval(), data, 30)) == 30


def test_modes_are_refused_to_a_game_that_is_asked_for_categories_alone(folder: Path) -> None:
    with pytest.raises(UserError, match="modes"):
        recipe = load_recipe("ctgan").override(["data.sampling=modes"], data={"source": str(folder / "people.csv")})
        open_domain("table").build_game(recipe, open_table(TableOptions(**recipe.data)).spec)


def test_a_line_has_a_number_a_column_between_minus_one_and_one_and_comes_back_as_the_row() -> None:
    frame = planted(200)
    from sparring.domains.table.columns import fit_column

    data = TableData("people", frame, [column for name in frame if (column := fit_column(frame[name], {}, 256))])
    rows, line = data.batch(torch.arange(200), augment=False)["data"], Line(data.columns)
    numbers = line.of(rows)
    assert numbers.shape == (200, 5) and numbers.abs().max() == 1  # age has a second one, for those that are missing
    domain = open_domain("table").knowing(data.spec)
    before, after = (domain.frame_of(Batch(data=each)) for each in (rows, line.back(numbers)))  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(before, after)
    near = numbers + 0.2 * torch.rand(200, 5) * -numbers.sign()
    whole = line.whole(near)
    categories = [line.places[0], line.places[3], line.places[1] + 1]
    assert torch.equal(whole[:, categories], numbers[:, categories])
    assert torch.equal(whole[:, line.places[2]], near[:, line.places[2]])


def test_tablegan_takes_no_wish_and_its_discriminator_sees_whole_categories(folder: Path) -> None:
    game, _ = built("tablegan", folder)
    assert isinstance(game, TableGAN) and game.labels is None
    made = game.sample(64, None)
    assert set(made[:, game.line.places[0]].detach().unique().tolist()) <= {-1.0, 1.0}
    made[:, game.line.places[0]].sum().backward()
    assert next(game.generator.parameters()).grad.abs().sum() > 0
