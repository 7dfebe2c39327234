"""medGAN on records of patients: codes, the autoencoder that learns first, and dimensions one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from planted import built, patients, points
from sparring.domains import open_domain
from sparring.domains.table.data import TableOptions, open_table
from sparring.domains.table.games.medgan import Codes, MedGAN
from sparring.domains.table.metrics.dimensions import dimension_prediction, dimension_probability, there
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)


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
