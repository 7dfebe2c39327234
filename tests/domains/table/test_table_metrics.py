"""Measures of tables on answers that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from planted import points
from sparring.domains.table.columns import fit_column
from sparring.domains.table.metrics import marginals
from sparring.domains.table.metrics.marginals import associations, coded, column_distances, pair_distance
from sparring.domains.table.metrics.privacy import closest, exact_copies, membership_auc
from sparring.domains.table.metrics.reports import diagnostic, quality
from sparring.domains.table.metrics.usefulness import detection, train_on_samples
from sparring.domains.table.show import cloud, matrices

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def test_distances_of_columns_are_shares_that_differ_and_the_largest_gap_of_cumulative_ones() -> None:
    real = pd.DataFrame({"kind": ["a"] * 50 + ["b"] * 50, "n": np.arange(100.0) + 0.5})
    fake = pd.DataFrame({"kind": ["a"] * 20 + ["b"] * 80, "n": np.r_[np.arange(50.0), np.arange(50.0)] + 0.5})
    space, (left, right) = points(real, fake)
    assert column_distances(left, right, space.cells) == pytest.approx([0.3, 0.5])
    assert column_distances(left, left, space.cells) == [0, 0]


def test_missing_numbers_count_as_a_value_of_their_own() -> None:
    real = pd.DataFrame({"n": np.where(np.arange(200) % 2, np.nan, RNG.normal(size=200)), "k": list("ab") * 100})
    fake = real.assign(n=real["n"].fillna(0.0))
    space, (left, right) = points(real, fake)
    assert column_distances(left, right, space.cells)[0] >= 0.5
    assert associations(coded(left, right, space.cells)[0])[0, 1] > 0.95  # k says where it is missing


def test_pairs_that_never_meet_in_the_data_are_an_error_where_columns_alone_are_right() -> None:
    real = pd.DataFrame({"a": list("xy") * 200, "b": list("pq") * 200, "n": np.arange(400) % 2 * 100.0})
    mixed = real.assign(b=RNG.permutation(real["b"]), n=RNG.permutation(real["n"]))
    space, (left, right) = points(real, mixed)
    codes = coded(left, right, space.cells)
    assert max(column_distances(left, right, space.cells)) < 0.01
    assert pair_distance(codes[0], codes[0]) == 0 and pair_distance(*codes) == pytest.approx(0.5, abs=0.05)
    assert associations(codes[0])[np.triu_indices(3, 1)] == pytest.approx([1, 1, 1], abs=0.01)
    assert associations(codes[1])[np.triu_indices(3, 1)].max() < 0.15


def test_what_is_above_a_value_that_most_rows_have_is_not_binned_with_it() -> None:
    real = pd.DataFrame({"n": [0] * 95 + list(range(100, 105)), "k": ["a"] * 95 + ["b"] * 5})
    space, (left,) = points(real)
    assert associations(coded(left, left, space.cells)[0])[0, 1] > 0.99


def test_useful_samples_teach_what_the_data_teach_and_shuffled_ones_do_not() -> None:
    def rows(count: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        n = rng.normal(size=count)
        return pd.DataFrame({"n": n, "m": 2 * n + rng.normal(size=count) / 9, "k": np.where(n > 0, "hi", "lo")})

    shuffled = rows(600, 2).apply(np.random.default_rng(0).permutation)
    space, (train, test, good, bad) = points(rows(600, 0), rows(600, 1), rows(600, 2), shuffled)
    for name, level in (("k", 0.9), ("m", 0.9)):
        target = next(cell for cell in space.cells if cell.column.name == name)
        useful, useless = (train_on_samples(train, test, side, space.cells, target, 0) for side in (good, bad))
        assert useful.on_samples > level and useful.on_data > level > 0.65 > useless.on_samples
    assert detection(train, good, space.cells, 0) < 0.6 and detection(train, bad, space.cells, 0) > 0.9


def test_copies_and_members_are_found_and_new_rows_give_nobody_away() -> None:
    members, others, fresh = (torch.randn(400, 3, generator=torch.Generator().manual_seed(n)) for n in range(3))
    half = torch.cat([members[:100], fresh[:100]])
    assert exact_copies(half, members) == 0.5 and exact_copies(fresh, members) == 0
    assert closest(members[:5], members).tolist() == [0] * 5
    assert membership_auc(members, others, members) > 0.99
    assert membership_auc(members, others, fresh) == pytest.approx(0.5, abs=0.06)
    assert membership_auc(members, members, fresh) == 0.5


def test_reports_of_sdmetrics_fall_when_columns_or_what_they_have_to_do_with_each_other_are_off() -> None:
    pytest.importorskip("sdmetrics")
    rng = np.random.default_rng(3)
    kind = np.array(list("abc") * 200)
    size = pd.Series(kind).map({"a": 0.0, "b": 5.0, "c": 9.0}) + rng.normal(size=600)
    real = pd.DataFrame({"kind": kind, "size": size, "n": np.where(rng.random(600) < 0.3, np.nan, size * 3)})
    fresh = real.sample(600, replace=True, random_state=1, ignore_index=True)
    mixed = real.assign(size=rng.permutation(real["size"]))
    space, (left, same, shuffled) = points(real, fresh, mixed)
    scores = [quality(left, side, space.cells) for side in (same, shuffled)]
    assert scores[0].total > scores[1].total + 0.1
    assert scores[1].properties["column_shapes"] > 0.97 > 0.75 > scores[1].properties["column_pair_trends"]


def test_a_diagnostic_sees_what_is_out_of_range_of_no_category_or_twice_the_same_key() -> None:
    pytest.importorskip("sdmetrics")
    real = pd.DataFrame({
        "id": [f"p{n}" for n in range(60)], "n": np.arange(60.0), "kind": list("ab") * 30,
        "day": pd.date_range("2020-01-01", periods=60).strftime("%d.%m.%Y"), "took": pd.to_timedelta(np.arange(60), unit="s"),
    })  # fmt: skip
    options = {"day": {"format": "%d.%m.%Y"}}
    columns = [each for name in real.columns if (each := fit_column(real[name], options.get(name, {}), 256))]
    assert diagnostic(real, real, columns).total == 1
    for wrong in ({"n": real["n"] + 50}, {"kind": "c"}, {"id": "p1"}, {"day": "01.01.1999"}):
        assert diagnostic(real, real.assign(**wrong), columns).total < 1, wrong
    assert diagnostic(real, real.drop(columns="n"), columns[:1] + columns[2:]).properties["data_structure"] < 1


def test_points_of_both_sides_are_shown_as_many_of_each() -> None:
    for count in (3, 120):
        figure = cloud(torch.randn(count, 4), torch.randn(count + 9, 4) + 5)
        assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [2 * count] * 2
    shown = figure.axes[1].collections[0]
    places, colours = torch.tensor(np.asarray(shown.get_offsets())), shown.get_facecolors()
    distances = torch.cdist(places, places).fill_diagonal_(torch.inf)
    # Sides that are apart are apart in the picture: next to a point of one is another of it.
    assert (colours[distances.argmin(1)] == colours).all(1).mean() > 0.97


def test_of_very_many_columns_some_pairs_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 3, (400, 60)), rng.integers(0, 4, (400, 60))
    whole = marginals.pair_distance(real, fake)
    monkeypatch.setattr(marginals, "PAIRS", 300)
    some = marginals._pairs(60)
    assert len(some) == 300 and all(0 <= other < one < 60 for one, other in some)
    assert marginals.pair_distance(real, fake) == pytest.approx(whole, rel=0.02)


def test_associations_are_the_same_however_their_tables_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, [1, 2, 5, 30], (400, 4))
    rows = np.column_stack([rows, 3 * rows[:, 2] + 1])
    counted = associations(rows)
    assert counted[2, 4] == pytest.approx(1) and counted[0, 1:].max() == 0
    monkeypatch.setattr(marginals, "CELLS", 1)
    assert np.allclose(associations(rows), counted)


def test_a_picture_of_some_pairs_says_of_how_many_columns() -> None:
    figure = matrices(np.eye(3), np.eye(3), list("abcde"))
    assert figure.get_supxlabel() == "the first 3 of 5 columns"
    assert matrices(np.eye(3), np.eye(3), list("abc")).get_supxlabel() == ""
