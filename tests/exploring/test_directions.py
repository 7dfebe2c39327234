"""Directions: the methods find what they claim to find, and an edit moves codes by what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring.directions import Directions, edit, find_directions, show_directions
from sparring.trained import Trained

torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "method"), [("plain", "pca"), ("styled", "pca"), ("styled", "sefa")])
def test_directions_are_of_unit_length_and_the_same_each_time(
    name: str, method: str, request: pytest.FixtureRequest
) -> None:
    trained: Trained = request.getfixturevalue(name)
    found, again = (find_directions(trained, method, count=3, samples=300) for _ in range(2))
    assert found.names == tuple(f"{method}-{number}" for number in (1, 2, 3))
    assert torch.equal(found.vectors, again.vectors)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(3))
    assert bool((found.weight.diff() <= 0).all())


def test_principal_directions_of_mapped_latents_are_those_of_their_covariance(styled: Trained) -> None:
    found = find_directions(styled, "pca", count=2, samples=500)
    codes = styled.codes(500)["code"][:, 0].double()
    values, vectors = torch.linalg.eigh(codes.T.cov())
    assert (found.vectors[0].double() @ vectors[:, -1]).abs().item() == pytest.approx(1, abs=1e-4)
    assert found.spread[0].item() == pytest.approx(values[-1].sqrt().item(), rel=1e-3)
    assert found.weight[1].item() == pytest.approx((values[-2] / values.sum()).item(), rel=1e-3)


def test_sefa_finds_the_change_of_code_that_style_layers_amplify_most(styled: Trained) -> None:
    found = find_directions(styled, "sefa", count=1, samples=50)
    layers = [
        layer.weight.detach()
        for name, layer in styled.game.generator.synthesis.named_modules()  # type: ignore[union-attr,operator]
        if isinstance(getattr(layer, "weight", None), Tensor) and layer.weight.shape[1:] == (5,)
    ]
    assert len(layers) > 3
    moved = torch.cat([weight @ found.vectors[0] for weight in layers]).norm()
    others = nn.functional.normalize(torch.randn(200, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    assert bool((torch.cat([weight @ others.T for weight in layers]).norm(dim=0) <= moved * (1 + 1e-5)).all())


def test_directions_of_plain_latents_are_those_that_move_samples_most(plain: Trained) -> None:
    found = find_directions(plain, "pca", count=6, samples=600)
    assert found.vectors.shape == (6, 6)
    codes = plain.codes(50, seed=9)

    def change(number: int) -> float:
        moved = edit(codes, found, found.names[number], 1.0)
        return float((plain.render(moved)["data"] - plain.render(codes)["data"]).square().mean())

    assert change(0) > 1.2 * change(5)


def test_an_edit_moves_by_standard_deviations_in_the_layers_named(styled: Trained) -> None:
    found = find_directions(styled, "pca", count=2, samples=300)
    codes = styled.codes(3)
    moved = edit(codes, found, "pca-2", -1.5, slice(1, 3))["code"] - codes["code"]
    assert not moved[:, 0].any() and not moved[:, 3:].any()
    wanted = (-1.5 * found.spread[1] * found.vectors[1]).expand(3, 2, -1)
    torch.testing.assert_close(moved[:, 1:3], wanted, atol=1e-6, rtol=1e-4)
    with pytest.raises(UserError, match=r"unknown direction 'pca-3'.*there are pca-1, pca-2"):
        edit(codes, found, "pca-3", 1.0)


def test_the_middle_of_a_row_is_the_sample_itself(plain: Trained) -> None:
    found = find_directions(plain, "pca", count=2, samples=100)
    grid = show_directions(plain, found, columns=5, reach=2.0, seed=4)
    shown = grid.samples["data"].unflatten(0, (2, 5))
    base = plain.codes(1, seed=4)
    torch.testing.assert_close(shown[:, 2], plain.render(base)["data"].expand(2, -1, -1, -1))
    torch.testing.assert_close(shown[1, 4], plain.render(edit(base, found, "pca-2", 2.0))["data"][0])
    assert grid.headings == ["-2", "-1", "0", "+1", "+2"]


def test_labels_are_told_by_the_normal_of_the_plane_between_them(plain: Trained) -> None:
    """A made-up classifier: whether a latent lies on one side of a known plane, as told from its sample."""
    normal = nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 1.0]), dim=0)

    def classify(samples: Batch) -> tuple[Tensor, list[str]]:
        side = plain.codes(len(samples["data"]))["code"] @ normal
        return torch.stack([-side, side], dim=1), ["below", "above"]

    found = find_directions(plain, "labels", samples=2000, classify=classify)
    assert found.names == ("below", "above")
    torch.testing.assert_close(found.vectors[1], normal, atol=0.05, rtol=0)
    torch.testing.assert_close(found.vectors[0], -normal, atol=0.05, rtol=0)
    assert found.weight.min() > 0.97


def test_what_no_method_can_do_is_said_in_one_line(plain: Trained, classes: Trained) -> None:
    with pytest.raises(UserError, match="its generator has none: use --method pca"):
        find_directions(plain, "sefa", samples=10)
    with pytest.raises(UserError, match=r"unknown method 'pcs' \(did you mean 'pca'\?\)"):
        find_directions(plain, "pcs")
    with pytest.raises(UserError, match="chosen by the label, so no direction of the latent means one"):
        find_directions(classes, "labels", samples=10, classify=lambda batch: (batch["data"], []))
    with pytest.raises(UserError, match="one class alone"):
        find_directions(plain, "labels", samples=100, classify=lambda b: (torch.eye(2)[:1].expand(100, 2), ["a", "b"]))


def test_directions_of_a_conditional_generator_are_the_latents_and_not_the_classes(classes: Trained) -> None:
    found = find_directions(classes, "pca", count=2, samples=300)
    assert isinstance(found, Directions) and found.vectors.shape == (2, 6)
