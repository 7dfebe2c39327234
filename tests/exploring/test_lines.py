"""Ways through codes: they begin and end where they should, and stay where generators have been trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from sparring.core.game import Batch, Game
from sparring.exploring.paths import between_codes, loop
from sparring.trained import Trained

torch.set_num_threads(1)


def test_a_way_between_normal_latents_is_a_great_circle_from_one_to_the_other(plain: Trained) -> None:
    start, end = plain.codes(3, seed=1), plain.codes(3, seed=2)
    way = between_codes(plain.game, start, end, torch.linspace(0, 1, 5))["code"].view(3, 5, -1)
    torch.testing.assert_close(way[:, 0], start["code"])
    torch.testing.assert_close(way[:, -1], end["code"])
    lengths = torch.stack([start["code"].norm(dim=1), end["code"].norm(dim=1)])
    torch.testing.assert_close(way[:, 2].norm(dim=1), lengths.mean(0))
    angles = torch.cosine_similarity(way[:, :-1], way[:, 1:], dim=2).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand_as(angles), rtol=1e-3, atol=1e-4)


def test_a_way_between_mapped_latents_is_straight(styled: Trained) -> None:
    start, end = styled.codes(2, seed=1), styled.codes(2, seed=2)
    way = between_codes(styled.game, start, end, torch.tensor([0.25, 1.5]))["code"].unflatten(0, (2, 2))
    torch.testing.assert_close(way[:, 0], 0.75 * start["code"] + 0.25 * end["code"])
    torch.testing.assert_close(way[:, 1], 1.5 * end["code"] - 0.5 * start["code"])


def test_labels_that_differ_are_mixed_and_equal_ones_stay_numbers(classes: Trained) -> None:
    start, end = classes.codes(2, label="cat"), classes.codes(2, seed=1, label="emu")
    mixed = between_codes(classes.game, start, end, torch.tensor([0.0, 0.25]))
    assert mixed["label"].tolist() == [[1, 0, 0], [0.75, 0, 0.25]] * 2
    same = between_codes(classes.game, start, start, torch.tensor([0.0, 0.25]))
    assert same["label"].tolist() == [0, 0, 0, 0]
    classes.render(mixed)


@pytest.mark.parametrize("shape", [(64,), (3, 16)])
def test_a_loop_passes_all_anchors_evenly_and_closes_smoothly(shape: tuple[int, ...]) -> None:
    game = cast(Game, SimpleNamespace(latent=64, latent_distribution="normal"))
    anchors = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    way = loop(game, Batch(code=anchors), 4000)["code"]
    torch.testing.assert_close(way[::1000], anchors)
    speed = (way.roll(-1, 0) - way).flatten(1)
    assert (
        speed.norm(dim=1).max() < 6 * speed.norm(dim=1).min()
    )  # slower at anchors, but no jump, least of all at the end
    turns = torch.cosine_similarity(speed, speed.roll(-1, 0))
    assert turns.min() > 0.98  # no corner at an anchor either


def test_a_loop_of_normal_latents_never_leaves_their_lengths(plain: Trained) -> None:
    anchors = plain.codes(5, seed=4)
    lengths = loop(plain.game, anchors, 500)["code"].norm(dim=1)
    own = anchors["code"].norm(dim=1)
    assert own.min() * 0.999 <= lengths.min() and lengths.max() <= own.max() * 1.001


def test_a_loop_through_classes_mixes_neighbours(classes: Trained) -> None:
    anchors = Batch(code=torch.randn(3, 6), label=torch.tensor([0, 1, 1]))
    label = loop(classes.game, anchors, 6)["label"]
    assert label.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0.5, 0.5, 0]]
