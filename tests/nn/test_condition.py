"""A label is the number of a class or a vector; a class is the vector that is 1 at its number."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.adversarial import mixes_samples
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.nn.condition import Head, append_label, embed

torch.set_num_threads(1)

SHAPE, LATENT, CLASSES = (1, 16, 16), 4, 3
LABEL = torch.tensor([2, 0, 1, 2])
HOT = F.one_hot(LABEL, CLASSES).float()
SOFT = torch.cat([torch.tensor([[0.0, 0.3, 0.7]]), HOT[1:]])


def narrow(table: dict[str, type[nn.Module]], name: str, *args: object) -> nn.Module:
    torch.manual_seed(0)
    slim = {"width": 16} if "width" in inspect.signature(table[name]).parameters else {}
    network = table[name](*args, **slim)
    for parameter in network.parameters():  # blocks that start as nothing would hide the label
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(params=GENERATORS)
def generator(request: pytest.FixtureRequest) -> nn.Module:
    return narrow(GENERATORS, request.param, SHAPE, LATENT, CLASSES)


@pytest.fixture(params=DISCRIMINATORS)
def discriminator(request: pytest.FixtureRequest) -> nn.Module:
    return narrow(DISCRIMINATORS, request.param, SHAPE, CLASSES)


def assert_vectors_continue_classes(network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        of_numbers, of_vectors, of_soft = network(x, LABEL), network(x, HOT), network(x, SOFT)
    assert torch.allclose(of_numbers, of_vectors, atol=1e-5)
    assert not torch.allclose(of_soft[0], of_vectors[0], atol=1e-5), "the label is ignored"
    if not mixes_samples(network):
        assert torch.allclose(of_soft[1:], of_numbers[1:], atol=1e-5)


def test_every_generator_reads_class_numbers_and_vectors_alike(generator: nn.Module) -> None:
    latent = getattr(generator, "latent_size", LATENT)  # a pyramid of networks has noise for each
    assert_vectors_continue_classes(generator, torch.randn(4, latent))


def test_every_discriminator_reads_class_numbers_and_vectors_alike(discriminator: nn.Module) -> None:
    assert_vectors_continue_classes(discriminator, torch.randn(4, *SHAPE))


def test_embedding_of_a_vector_is_the_weighted_sum_of_its_rows() -> None:
    embedding = nn.Embedding(3, 5)
    assert embed(embedding, LABEL).equal(embedding.weight[LABEL])
    rows = embedding.weight
    assert torch.allclose(embed(embedding, SOFT)[0], 0.3 * rows[1] + 0.7 * rows[2])
    assert torch.allclose(embed(embedding, HOT), embed(embedding, LABEL))


def test_vectors_join_as_they_are() -> None:
    assert append_label(torch.zeros(4, 1), SOFT, 3)[0].tolist() == pytest.approx([0, 0, 0.3, 0.7])
    planes = append_label(torch.zeros(4, 1, 2, 3), SOFT, 3)
    assert planes.shape == (4, 4, 2, 3) and planes[0, 3].eq(0.7).all()


def test_projection_head_takes_the_inner_product_with_the_vector_s_embedding() -> None:
    head, features = Head(6, 3), torch.randn(4, 6)
    assert head.embedding is not None
    expected = head.linear(features).squeeze(1) + (SOFT @ head.embedding.weight * features).sum(1)
    assert torch.allclose(head(features, SOFT), expected, atol=1e-6)


@pytest.mark.parametrize("label", [None, torch.zeros(4, 2), torch.zeros(4)], ids=["none", "two", "plain"])
def test_missing_label_and_one_of_another_size_are_refused(label: Tensor | None) -> None:
    with pytest.raises(ValueError, match="built for 3 classes"):
        append_label(torch.zeros(4, 1), label, 3)
    with pytest.raises(ValueError, match="built for 3 classes"):
        Head(4, 3)(torch.zeros(4, 4), label)
