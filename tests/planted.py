"""Tables with something to find in them, and games on them that are small enough to be taught in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparring.core.game import Game
from sparring.domains import open_domain
from sparring.domains.table.cells import Cells
from sparring.domains.table.columns import fit_column
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.recipe import load_recipe

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


def points(*frames: pd.DataFrame) -> tuple[Cells, list[Tensor]]:
    """Tables as points, coded as the first."""
    columns = [column for name in frames[0].columns if (column := fit_column(frames[0][name], {}, 256))]
    space = Cells(columns)
    sides = [TableData("t", frame, columns).batch(torch.arange(len(frame)), augment=False) for frame in frames]
    return space, [space(side)["features"] for side in sides]
