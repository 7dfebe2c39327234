"""Pictures of vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from PIL import Image

from sparring.domains.figures import save_figure
from sparring.domains.vector.show import FAINT, STRONG, principal_axes, scatter
from sparring.errors import UserError

torch.set_num_threads(1)

RNG = np.random.default_rng(0)


def test_samples_are_strong_over_faint_data_with_equal_axes() -> None:
    real, fake = RNG.normal(size=(50, 2)) * [10, 1], RNG.normal(size=(20, 2))
    axes = scatter(fake, real).axes[0]
    below, above = axes.collections
    assert np.array_equal(np.asarray(below.get_offsets()), real) and np.array_equal(
        np.asarray(above.get_offsets()), fake
    )
    assert same_color(below.get_facecolor()[0][:3], FAINT) and same_color(above.get_facecolor()[0][:3], STRONG)
    assert below.get_alpha() < above.get_alpha()
    assert axes.get_aspect() == 1
    assert np.ptp(axes.get_xlim()) == pytest.approx(np.ptp(axes.get_ylim()))


def test_the_frame_is_the_datas_and_what_lies_outside_is_counted() -> None:
    real = RNG.uniform(-1, 1, size=(500, 2))
    fake = np.array([[0, 0], [0.5, -0.5], [30, 0], [0, -1e6]])
    axes = scatter(fake, real).axes[0]
    assert max(np.abs([*axes.get_xlim(), *axes.get_ylim()])) < 1.3
    assert "4 samples, 2 of them outside the frame" in axes.get_title(loc="left")


def test_principal_axes_are_where_the_data_spreads_most() -> None:
    directions = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    points = (RNG.normal(size=(5000, 6)) * [9, 3, 1, 0.1, 0.1, 0.1]) @ directions.T + 100
    centre, axes, shares = principal_axes(points)
    assert np.abs(np.diag(axes.T @ directions[:, :2])) == pytest.approx([1, 1], abs=1e-3)
    assert shares == pytest.approx([81 / 91.03, 9 / 91.03], abs=0.02)
    assert centre == pytest.approx(points.mean(axis=0))


def test_many_columns_are_shown_along_the_datas_axes_and_not_the_samples() -> None:
    real = RNG.normal(size=(300, 5)) * [1, 1, 50, 1, 20]
    fake = RNG.normal(size=(40, 5)) * [90, 1, 1, 1, 1]
    axes = scatter(fake, real).axes[0]
    projected = np.asarray(axes.collections[0].get_offsets())
    assert np.abs(np.corrcoef(projected[:, 0], real[:, 2])[0, 1]) > 0.99
    assert np.abs(np.corrcoef(projected[:, 1], real[:, 4])[0, 1]) > 0.99
    assert "of the variance" in axes.get_xlabel()


def test_each_class_has_a_colour_of_its_own_and_a_name() -> None:
    points, labels = RNG.normal(size=(30, 2)), np.arange(30) % 3
    axes = scatter(points, points, labels, ["ant", "bee", "cat"]).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["data", "ant", "bee", "cat"]
    colours = {tuple(each.get_facecolor()[0]) for each in axes.collections[1:]}
    assert len(colours) == 3
    many = scatter(points, points, labels, [str(number) for number in range(40)]).axes[0]
    assert many.get_legend() is not None  # three classes are there, whatever the data could have


def test_one_column_is_a_pair_of_histograms_over_the_datas_range() -> None:
    axes = scatter(RNG.normal(size=(400, 1)), RNG.normal(size=(900, 1))).axes[0]
    shares = [patch.get_data().values.sum() for patch in axes.patches]
    assert len(shares) == 2 and shares[0] == pytest.approx(1) and 0.97 < shares[1] <= 1


def test_equal_samples_are_equal_files(tmp_path: Path) -> None:
    points = RNG.normal(size=(60, 2))
    for name in ("a.png", "b.png"):
        save_figure(scatter(points, points[::-1]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3).astype(int)
    red = np.array([int(STRONG[at : at + 2], 16) for at in (1, 3, 5)])
    assert (np.abs(picture - red).sum(axis=1) < 100).sum() > 200


@pytest.mark.parametrize("width", [1, 2, 7])
def test_a_single_sample_and_data_without_spread_can_be_shown(width: int, tmp_path: Path) -> None:
    save_figure(scatter(np.ones((1, width))), tmp_path / "one.png")
    save_figure(scatter(np.ones((1, width)), np.ones((3, width))), tmp_path / "flat.png")
    assert Image.open(tmp_path / "flat.png").size == Image.open(tmp_path / "one.png").size


def test_what_is_not_finite_says_that_the_generator_diverged() -> None:
    with pytest.raises(UserError, match="the generator has diverged"):
        scatter(np.array([[0.0, np.nan]]))
