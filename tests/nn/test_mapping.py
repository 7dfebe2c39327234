"""The mapping network, its mean, and truncation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sparring.core import processes
from sparring.core.initialize import initialize
from sparring.errors import UserError
from sparring.nn.mapping import MappingNetwork, pixel_norm

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_paper_mapping_has_8_layers_of_512_and_codes_of_unit_variance() -> None:
    mapping = MappingNetwork(512, 0, 512)
    assert sum(p.numel() for p in mapping.parameters()) == 8 * 512 * 513
    assert mapping(torch.randn(64, 512)).square().mean().item() == pytest.approx((1 + 0.2**2) ** 8, rel=0.15)


def test_only_the_direction_of_a_latent_counts() -> None:
    mapping, latent = MappingNetwork(16, 0, 8, layers=2), torch.randn(4, 16)
    torch.testing.assert_close(mapping(3 * latent), mapping(latent))
    torch.testing.assert_close(pixel_norm(latent).square().mean(1), torch.ones(4))


def test_a_class_is_the_vector_that_is_one_at_its_number() -> None:
    mapping, latent = MappingNetwork(6, 3, 8, layers=2), torch.randn(3, 6)
    label = torch.tensor([2, 0, 1])
    torch.testing.assert_close(mapping(latent, label), mapping(latent, F.one_hot(label, 3).float()))
    assert not torch.allclose(mapping(latent, label), mapping(latent, label.flip(0)))
    alone = MappingNetwork(0, 3, 8, layers=1, decay=None)
    assert alone(None, label).shape == (3, 8) and not [*alone.buffers()]
    with pytest.raises(ValueError, match="3 classes"):
        mapping(latent)
    with pytest.raises(UserError, match="needs a latent"):
        MappingNetwork(0, 0, 8)


def test_the_mean_code_follows_in_training_alone_and_is_saved() -> None:
    mapping = MappingNetwork(5, 0, 8, layers=2, decay=0.9)
    latents = torch.randn(2, 40, 5)
    codes = [mapping(latent).mean(0) for latent in latents]
    torch.testing.assert_close(mapping.state_dict()["mean_code"], 0.1 * codes[1] + 0.09 * codes[0])
    before = mapping.mean_code.clone()
    mapping.eval()(latents[0])
    assert torch.equal(mapping.mean_code, before)


def test_the_mean_code_takes_in_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    mapping, asked = MappingNetwork(5, 0, 8, layers=1, decay=0.5), []
    monkeypatch.setattr(processes, "mean", lambda value: asked.append(value) or torch.ones(8))
    own = mapping(torch.randn(4, 5)).mean(0)
    torch.testing.assert_close(asked, [own.detach()])
    torch.testing.assert_close(mapping.mean_code, torch.full((8,), 0.5))


def test_a_recipes_initialiser_leaves_the_mapping_as_it_must_be() -> None:
    mapping = MappingNetwork(64, 3, 64, layers=2)
    initialize(mapping, {"name": "normal", "std": 0.02})
    assert mapping.layers[1].weight.std().item() == pytest.approx(100, rel=0.05)
