"""What can be measured of tables, beside what is of any samples that are described by features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.core.game import Batch, Game
from sparring.domains.table.cells import Cell
from sparring.domains.table.columns import Column
from sparring.domains.table.conditions import TableLabels
from sparring.domains.table.metrics.dimensions import countable, dimension_prediction, dimension_probability, there
from sparring.domains.table.metrics.fairness import fairness, parity
from sparring.domains.table.metrics.marginals import coded, column_distances, pair_distance
from sparring.domains.table.metrics.privacy import closest, exact_copies
from sparring.domains.table.metrics.reports import diagnostic, quality
from sparring.domains.table.metrics.usefulness import detection, train_on_samples
from sparring.errors import UserError
from sparring.metrics import catalogue
from sparring.metrics.catalogue import HIGHER, LOWER, SHARE
from sparring.metrics.meter import Measure, Probed, Value, Values

Frame = Callable[[Batch], Any]
"""Encoded rows → a table, as users see it."""
TRAININGS = 10  # halves that an interval is of, where each is a training or a report of seconds
ASKED = 50  # rows that each category is asked for in
CATEGORIES = 400  # that are asked for, at most
NOT_HERE = ("inception_score", "conditional_accuracy", "class_fid", "modes")  # for classes, which tables have not


def _marginals(cells: Sequence[Cell], real: Batch, fake: Batch, seed: int) -> Values:
    found = column_distances(real["features"], fake["features"], cells)
    each = {cell.column.name: round(distance, 4) for cell, distance in zip(cells, found, strict=True)}
    return {"marginal_error": Value(sum(found) / len(found), {"by_column": each})}


def _pairs(cells: Sequence[Cell], real: Batch, fake: Batch, seed: int) -> Values:
    return {"pair_error": pair_distance(*coded(real["features"], fake["features"], cells))}


def _detection(cells: Sequence[Cell], real: Batch, fake: Batch, seed: int) -> Values:
    return {"detection_auc": detection(real["features"], fake["features"], cells, seed)}


def _usefulness(cells: Sequence[Cell], target: str, real: Batch, fake: Batch, seed: int) -> Values:
    column = next(cell for cell in cells if cell.column.name == target)
    train, test = real["features"].chunk(2)
    found = train_on_samples(train, test, fake["features"], cells, column, seed)
    return {"tstr": Value(found.on_samples, {"of_real": found.on_data, "target": target, "score": found.measure})}


def _fairness(cells: Sequence[Cell], target: str, protected: str, real: Batch, fake: Batch, seed: int) -> Values:
    of, group = (next(cell for cell in cells if cell.column.name == name) for name in (target, protected))
    one, other = real["features"].chunk(2)
    samples = fake["features"]
    own, data = (parity(*(side[:, cell.place].argmax(1).cpu().numpy() for cell in (of, group))) for side in (samples, real["features"]))  # fmt: skip
    found, usual = (fairness(side, other, cells, of, group, seed) for side in (samples[: len(one)], one))
    facts = {"protected": protected, "target": target}
    return {
        "parity": Value(own, {"of_real": data, **facts}),
        "model_parity": Value(found.parity, {"of_real": usual.parity, **facts}),
        "model_odds": Value(found.odds, {"of_real": usual.odds, **facts}),
        "model_accuracy": Value(found.accuracy, {"of_real": usual.accuracy, **facts}),
    }


def _dimensions(cells: Sequence[Cell], real: Batch, fake: Batch, seed: int) -> Values:
    data, samples = (there(side["features"], cells) for side in (real, fake))
    train, test = np.array_split(data, 2)
    on_samples, on_data, apart = dimension_prediction(train, test, samples, seed)
    shares = {cell.column.name: round(float(share), 4) for cell, share in zip(cells, samples.mean(0), strict=True)}
    return {
        "dimension_probability": Value(dimension_probability(data, samples), {"by_column": shares}),
        "dimension_prediction": Value(apart, {"f1": on_samples, "f1_of_real": on_data}),
    }


def _privacy(real: Batch, fake: Batch, seed: int) -> Values:
    one, other = real["features"].chunk(2)
    among = fake["features"][: len(other)]
    return {
        "exact_copies": Value(exact_copies(among, one), {"of_real": exact_copies(other, one)}),
        "closest_record": Value(float(closest(among, one).median()), {"of_real": float(closest(other, one).median())}),
    }


def _obedience(real: Batch, fake: Batch, seed: int) -> Values:
    asked, had = fake["asked"].long(), fake["had"]
    rows = torch.arange(len(asked))
    return {"adherence": Value(float(had[rows, asked].double().mean()), {"categories": len(asked.unique())})}


def _asked(game: Game, seed: int) -> Probed:
    """Each category asked for in turn, and what rows came."""
    labels, places = game.labels, getattr(game, "hot", None)
    if not isinstance(labels, TableLabels) or not isinstance(places, Tensor):
        raise UserError("the game has no columns of categories, so nothing can be asked of it")
    rng = torch.Generator(game.device).manual_seed(seed)
    count = len(labels.names)
    wanted = torch.arange(count)[:: -(-count // CATEGORIES)].repeat_interleave(ASKED)
    pieces = []
    for part in wanted.split(4096):
        condition = torch.nn.functional.one_hot(part, count).float().to(game.device)
        rows = game.generate(len(part), condition=condition, rng=rng)["data"]
        pieces.append((rows[:, places] > 0).cpu())
    return Probed(Batch(features=torch.cat(pieces).float(), asked=wanted, had=torch.cat(pieces)))


def _quality(cells: Sequence[Cell], real: Batch, fake: Batch, seed: int) -> Values:
    one, other = real["features"].chunk(2)
    found, of_real = (quality(one, each, cells) for each in (fake["features"][: len(other)], other))
    return {"sdmetrics_quality": Value(found.total, {"of_real": of_real.total, **found.properties})}


def _diagnostic(frame: Frame | None, columns: Sequence[Column], real: Batch, fake: Batch, seed: int) -> Values:
    assert frame is not None
    made = [frame(Batch(data=each)) for each in (*real["data"].chunk(2), fake["data"])]
    one, other, among = made
    found, of_real = (diagnostic(one, each, columns) for each in (among[: len(other)], other))
    return {"sdmetrics_diagnostic": Value(found.total, {"of_real": of_real.total, **found.properties})}


def measures_for(
    cells: Sequence[Cell],
    target: str | None,
    protected: str | None = None,
    columns: Sequence[Column] = (),
    frame: Frame | None = None,
) -> dict[str, Measure]:
    """All measures of tables with these columns.

    target: the column that models foretell, for how useful samples are. protected: the one whose groups are to fare alike.
    columns: all of them, as users see them. frame: what makes a table of rows.
    Without columns, only what there is to measure, which can be listed.
    """
    own: dict[str, Measure] = {
        "marginal_error": Measure(
            {"marginal_error": LOWER}, partial(_marginals, cells), within=SHARE, usual=True,
            note="mean over columns of the distance from the data's: total variation, or Kolmogorov and Smirnov's",
        ),
        "pair_error": Measure(
            {"pair_error": LOWER}, partial(_pairs, cells), within=SHARE, usual=True,
            note="mean over pairs of columns of the total variation of how often values meet",
        ),
        "detection": Measure(
            {"detection_auc": LOWER}, partial(_detection, cells), within=SHARE, usual=True, most=5000, halves=TRAININGS,
            note="how well trees tell samples from data: area under the ROC curve",
        ),
        "privacy": Measure(
            {"exact_copies": LOWER, "closest_record": HIGHER}, _privacy, usual=True, resampled="fake",
            note="samples that equal a row of the data; median distance to the closest row",
        ),
        "sdmetrics": Measure(
            {"sdmetrics_quality": HIGHER}, partial(_quality, cells), within=SHARE, most=5000, halves=TRAININGS,
            note="the score of sdmetrics' quality report: columns, and pairs of columns",
        ),
        "diagnostic": Measure(
            {"sdmetrics_diagnostic": HIGHER}, partial(_diagnostic, frame, columns), needs=("data",), within=SHARE, halves=TRAININGS,
            note="the score of sdmetrics' diagnostic report, of the tables as they are written: types, ranges, categories, keys",
        ),
        "adherence": Measure(
            {"adherence": HIGHER}, _obedience, needs=("generator",), probe=_asked, within=SHARE, usual=True,
            note="share of rows that have the category they were asked for",
        ),
    }  # fmt: skip
    if target is not None or not cells:
        own["tstr"] = Measure(
            {"tstr": HIGHER}, partial(_usefulness, cells, target or ""), within=(-torch.inf, 1.0), usual=True, halves=TRAININGS,
            note="score on data of trees trained on samples, for the target column (Esteban et al. 2017)",
        )  # fmt: skip
    if (protected is not None and target is not None) or not cells:
        own["fairness"] = Measure(
            {"parity": LOWER, "model_parity": LOWER, "model_odds": LOWER, "model_accuracy": HIGHER},
            partial(_fairness, cells, target or "", protected or ""), within=SHARE, usual=True, halves=TRAININGS,
            note="how differently groups fare: in samples, and under trees trained on samples, on rows of the data",
        )  # fmt: skip
    if all(countable(cell.column) for cell in cells):
        own["dimensions"] = Measure(
            {"dimension_probability": LOWER, "dimension_prediction": LOWER}, partial(_dimensions, cells), within=SHARE, usual=True, halves=TRAININGS,
            note="of 0 and 1 and counts: how often each is there, and how well the others foretell it (Choi et al. 2017)",
        )  # fmt: skip
    return {**own, **{name: each for name, each in catalogue.MEASURES.items() if name not in NOT_HERE}}
