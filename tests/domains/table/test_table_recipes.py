"""TableGAN, CTAB-GAN+, medGAN and the fair games: each of their terms does what it is for, and their runs go the way of all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import sparring
from sparring.core.game import Batch, Game, Turn
from sparring.domains import open_domain
from sparring.domains.table.cells import Cells
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.domains.table.games.ctabgan import CTABGAN
from sparring.domains.table.games.fair import FairGAN, mistaken, parity
from sparring.domains.table.games.information import Running, information, moments_of
from sparring.domains.table.games.medgan import Codes, MedGAN
from sparring.domains.table.games.tablegan import Line, TableGAN
from sparring.domains.table.metrics.dimensions import dimension_prediction, dimension_probability, there
from sparring.domains.table.metrics.fairness import fairness
from sparring.domains.table.metrics.fairness import parity as parity_of
from sparring.domains.table.rows import values_of
from sparring.domains.table.squares import SquareDiscriminator, SquareGenerator, side_of, to_rows, to_square
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)

SMALL = ["train.schedule={name: constant}", "train.batch_size=64"]
TINY = {
    "ctabgan-plus": ["model.latent=4", "model.generator.width=4", "model.discriminator.width=4", "model.classifier={width: 16, depth: 1, dropout: 0}"],
    "tablegan": ["model.latent=4", "model.generator.width=4", "model.discriminator.width=4", "model.classifier.width=4"],
    "medgan-records": ["model.latent=8", "model.code=8", "model.discriminator=[8]", "model.pretraining=3"],
    "tabfairgan": ["model.latent=4", "model.generator.width=16", "model.discriminator.width=16", "data.protected=sex", "model.fair_from=3"],
    "fairgan": ["model.latent=4", "model.generator.width=16", "model.discriminator.width=16", "data.protected=sex", "model.fair_from=3", "model.second={width: 16, depth: 1}"],
}  # fmt: skip


def planted(rows: int = 600) -> pd.DataFrame:
    """People: men are paid well four times in five and women one time in five; debts have a long tail and heaps of zeros."""
    rng = np.random.default_rng(0)
    sex = rng.choice(["m", "f"], rows, p=[0.6, 0.4])
    paid = rng.random(rows) < np.where(sex == "m", 0.8, 0.2)
    return pd.DataFrame({
        "sex": sex,
        "age": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(40, 9, rows).round(1)),
        "debt": np.where(rng.random(rows) < 0.5, 0, np.exp(rng.normal(5, 1.8, rows)).round()).astype(int),
        "pay": np.where(paid, "high", "low"),
    })  # fmt: skip


def patients(rows: int = 400) -> pd.DataFrame:
    """Two codes that come together, one of its own, and a count."""
    rng = np.random.default_rng(0)
    first = rng.random(rows) < 0.3
    return pd.DataFrame({
        "a": first.astype(int), "b": (first ^ (rng.random(rows) < 0.05)).astype(int),
        "c": np.where(rng.random(rows) < 0.2, "yes", "no"), "visits": rng.poisson(2, rows),
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    planted().to_csv(folder / "people.csv", index=False)
    patients().to_csv(folder / "patients.csv", index=False)
    return folder


def source_of(name: str, folder: Path) -> str:
    return str(folder / ("patients.csv" if name == "medgan-records" else "people.csv"))


def built(name: str, folder: Path, *more: str) -> tuple[Any, TableData]:
    recipe = load_recipe(name).override([*SMALL, *TINY[name], *more], data={"source": source_of(name, folder)})
    data = open_table(TableOptions(**recipe.data))
    torch.manual_seed(0)
    return open_domain("table").build_game(recipe, data.spec), data


def taught(game: Game, data: TableData, steps: int, rate: float = 1e-2) -> Game:
    """A game whose generator has learnt from its further terms alone: so a test is about these, and fast."""
    optimizers = {name: torch.optim.Adam(player.parameters(), rate, (0.5, 0.9)) for name, player in game.players().items()}  # fmt: skip
    for step in range(steps):
        batch = data.batch(torch.randint(len(data), (64,)))
        if hasattr(game, "hot"):
            batch.memo["condition"] = game._asked(batch["data"], batch.get("asked"))  # type: ignore[operator]
        for turn in game.turns(step):
            if turn.player == "discriminator":
                continue
            losses = game.loss(turn, batch, step)
            losses.pop("adversarial", None)
            optimizers[turn.player].zero_grad()
            if losses:
                losses.total.backward(inputs=list(game.players()[turn.player].parameters()))
                optimizers[turn.player].step()
    return game.eval()


def drawn(game: Game, data: TableData, count: int = 1000) -> pd.DataFrame:
    domain = open_domain("table").knowing(data.spec)
    with torch.no_grad():
        return domain.frame_of(game.generate(count, rng=torch.Generator().manual_seed(1)))  # type: ignore[attr-defined]


def gap(frame: pd.DataFrame) -> float:
    shares = (frame["pay"] == "high").groupby(frame["sex"]).mean()
    return float(shares.max() - shares.min())


# Squares


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


# Information and classification


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


# CTAB-GAN+


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


# TableGAN


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


# medGAN


def test_codes_are_the_columns_zeros_and_ones_and_counts_in_one_unit_and_come_back(folder: Path) -> None:
    frame = pd.read_csv(folder / "patients.csv")
    data = open_table(TableOptions(source=str(folder / "patients.csv"), sampling="rows"))
    rows, codes = data.batch(torch.arange(400), augment=False)["data"], Codes(data.columns)
    matrix = codes.of(rows)
    assert torch.equal(matrix[:, 0], torch.tensor(frame["a"].to_numpy()).float())
    assert torch.equal(matrix[:, 2] > 0, torch.tensor((frame["c"] == "yes").to_numpy()))  # the rarer of two words
    assert float(matrix[:, 3].square().mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(codes.back(matrix), rows)


def test_medgan_refuses_a_table_of_other_columns_in_a_line(folder: Path) -> None:
    recipe = load_recipe("medgan-records").override([], data={"source": str(folder / "people.csv")})
    with pytest.raises(UserError, match=r"'age' is none: leave it out with --set data\.columns\.age\.kind=drop"):
        open_domain("table").build_game(recipe, open_table(TableOptions(**recipe.data)).spec)


def test_the_autoencoder_learns_alone_and_then_its_decoder_plays(folder: Path) -> None:
    game, data = built("medgan-records", folder)
    assert isinstance(game, MedGAN)
    assert [turn.player for turn in game.turns(2)] == ["autoencoder"]
    assert [turn.player for turn in game.turns(3)] == ["discriminator", "discriminator", "generator"]
    shared = {id(each) for each in game.autoencoder.decoder.parameters()}
    assert shared <= {id(each) for each in game.players()["generator"].parameters()}
    codes = game.codes.of(data.batch(torch.arange(400), augment=False)["data"])
    before = float(game.reconstruction(codes).detach())
    player = torch.optim.Adam(game.autoencoder.parameters(), 1e-2)
    for _ in range(100):
        player.zero_grad()
        game.reconstruction(codes).backward()
        player.step()
    assert float(game.reconstruction(codes).detach()) < 0.5 * before


def test_the_discriminator_of_patients_sees_what_the_whole_batch_is_like(folder: Path) -> None:
    alike = torch.zeros(8, 4)
    mixed = torch.cat([torch.zeros(1, 4), torch.ones(7, 4)])
    for averaging in (True, False):
        game, _ = built("medgan-records", folder, f"model.averaging={str(averaging).lower()}")
        first = [float(game.discriminator(each)[0].detach()) for each in (alike, mixed)]
        assert (first[0] != first[1]) == averaging and game.joint != averaging


# Fairness


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


def points(*frames: pd.DataFrame) -> tuple[Cells, list[Tensor]]:
    from sparring.domains.table.columns import fit_column

    columns = [column for name in frames[0] if (column := fit_column(frames[0][name], {}, 256))]
    space = Cells(columns)
    return space, [space(TableData("t", each, columns).batch(torch.arange(len(each)), augment=False))["features"] for each in frames]  # fmt: skip


def test_a_model_is_as_unfair_on_real_rows_as_what_it_learnt_from() -> None:
    frame = planted(2000)
    fair = frame.assign(pay=np.random.default_rng(1).permutation(frame["pay"]))
    space, (unfair, mixed, test) = points(frame, fair, planted(2000).iloc[::-1].reset_index(drop=True))
    sex, pay = (next(cell for cell in space.cells if cell.column.name == name) for name in ("sex", "pay"))
    learnt, kept = (fairness(side, test, space.cells, pay, sex, 0) for side in (unfair, mixed))
    assert learnt.parity > 0.5 and learnt.accuracy > 0.75 and learnt.odds > 0.2
    assert kept.parity < 0.15 and kept.accuracy < learnt.accuracy - 0.1


def test_dimensions_of_codes_are_told_apart_when_they_come_less_often_or_no_longer_together() -> None:
    real = patients(2000)
    rarer = real.assign(a=np.where(np.arange(2000) < 1000, 0, real["a"]))
    rng = np.random.default_rng(2)
    alone = real.apply(lambda column: rng.permutation(column))
    space, sides = points(real, rarer, alone)
    data, less, apart = (there(each, space.cells) for each in sides)
    assert data[:, 0].tolist() == (real["a"] == 1).tolist() and data[:, 2].tolist() == (real["c"] == "yes").tolist()
    assert data[:, 3].tolist() == (real["visits"] > 0).tolist()
    share = (real["a"][:1000] == 1).sum() / 2000
    assert dimension_probability(data, less) == pytest.approx(np.sqrt(share**2 / 4))
    assert dimension_probability(data, apart) == 0
    train, test = np.array_split(data, 2)
    assert dimension_prediction(train, test, train, 0)[2] == 0
    on_samples, on_data, difference = dimension_prediction(train, test, apart, 0)
    assert on_data > on_samples + 0.2 and difference > 0.2


# Runs


@pytest.mark.parametrize("name", TINY)
def test_a_run_resumes_to_the_same_bits_draws_a_table_and_is_measured(name: str, folder: Path, tmp_path: Path) -> None:
    files = []
    for kind, steps in (("whole", 6), ("cut", 4)):
        recipe = load_recipe(name).override([*SMALL, *TINY[name], "train.checkpoint_every=4", "evaluate.metric=null"])
        sparring.train(recipe, data=source_of(name, folder), out=tmp_path / kind, steps=steps, device="cpu", quiet=True)
    sparring.resume(tmp_path / "cut", steps=6, device="cpu", quiet=True)
    for kind in ("whole", "cut"):
        (file,) = sparring.generate(tmp_path / kind, count=200, out=tmp_path / f"{kind}.csv", checkpoint="last")
        files.append(Path(file).read_bytes())
    assert files[0] == files[1]
    real, frame = pd.read_csv(source_of(name, folder)), pd.read_csv(tmp_path / "cut.csv")
    assert list(frame.columns) == list(real.columns) and len(frame) == 200
    if sparring.load(tmp_path / "cut").game.labels is not None:
        (file,) = sparring.generate(tmp_path / "cut", count=20, out=tmp_path / "rich.csv", label="pay=high,sex=f")
        assert (pd.read_csv(file)[["pay", "sex"]] == ["high", "f"]).all(axis=None)
    metrics = {"medgan-records": "dimensions", "fairgan": "fairness", "tabfairgan": "fairness"}.get(name, "pair_error")
    found = sparring.evaluate(tmp_path / "cut", metrics=metrics, count=200, budget=0.1, out=tmp_path).figures
    if metrics == "fairness":
        assert found["parity"].facts["of_real"] == pytest.approx(gap(real), abs=0.1)
        assert set(found) == {"parity", "model_parity", "model_odds", "model_accuracy"}
    assert all(0 <= figure.value <= 1 for figure in found.values())
