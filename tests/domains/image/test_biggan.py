"""SN-GAN, SAGAN and BigGAN: the published networks, and what enters where."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sparring import api
from sparring.core.game import Batch, DataSpec
from sparring.core.regularize import weight_terms
from sparring.domains import open_domain
from sparring.domains.image.games.adversarial import ImageGame
from sparring.domains.image.networks.biggan import BigganGenerator
from sparring.domains.image.networks.sagan import SaganGenerator
from sparring.errors import UserError
from sparring.nn.self_attention import SelfAttention, attention_maps
from sparring.recipe import load_recipe

torch.set_num_threads(1)


def game(name: str, *overrides: str, shape: tuple[int, int, int] = (1, 12, 8), classes: int = 3) -> ImageGame:
    torch.manual_seed(0)
    recipe = api.resolve(load_recipe(name).override(list(overrides)))
    names = tuple(map(str, range(classes)))
    spec = DataSpec(shape, names, 100, {"label_counts": [1] * classes})
    built = open_domain(recipe.domain).build_game(recipe, spec)
    assert isinstance(built, ImageGame)
    return built


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# BigGAN-128 and BigGAN-deep-128: Brock et al. 2019, table of appendix B: 70.4 M and 88.0 M, 50.4 M and 34.6 M.
# SN-GAN's and SAGAN's are not in the papers; they follow from the tables of layers there.
PUBLISHED = {
    "biggan-128": (128, 1000, 70_433_988, 87_982_370),
    "biggan-deep-128": (128, 1000, 50_244_484, 34_590_210),
    "sagan-128": (128, 1000, 42_078_852, 39_463_618),
    "resnet-sngan-128": (128, 1000, 41_996_931, 30_041_857),
    "resnet-sngan-32": (32, 10, 4_276_739, 1_053_825),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_paper_s_preset_has_the_paper_s_parameters(name: str) -> None:
    side, classes, of_generator, of_discriminator = PUBLISHED[name]
    with torch.device("meta"):
        built = game(name, "model.spectral_norm=[]", "model.initialize={}", shape=(3, side, side), classes=classes)
    assert (count(built.generator), count(built.discriminator)) == (of_generator, of_discriminator)


def test_biggan_deep_s_published_count_holds_125_outputs_that_no_image_shows() -> None:
    """The published generator's last 3×3 convolution has as many outputs as inputs, of which 3 are the image."""
    width = 128
    with torch.device("meta"):
        ours = count(BigganGenerator((3, 128, 128), 128, 1000, width=width, deep=True))
    assert round((ours + (width - 3) * (9 * width + 1)) / 1e6, 1) == 50.4


def test_biggan_128_layer_by_layer() -> None:
    width, latent, shared, classes = 96, 20, 128, 1000
    widths = [16 * width, 16 * width, 8 * width, 4 * width, 2 * width, width]
    expected = {
        "embedding": classes * shared,
        "base": (latent + 1) * 16 * widths[0],
        "stages": sum(
            9 * after * (before + after) + 2 * after  # two 3×3 convolutions
            + before * after + after  # the shortcut
            + 2 * (latent + shared) * (before + after)  # gain and bias of two norms
            for before, after in pairwise(widths)
        ),
        "attention": 2 * (2 * width) * (2 * width) // 8 + 2 * (2 * width) * (2 * width) // 2 + 1,
        "norm": 2 * width,
        "to_image": 3 * (9 * width + 1),
    }  # fmt: skip
    with torch.device("meta"):
        built = BigganGenerator((3, 128, 128), 120, classes)
    assert {name: count(child) for name, child in built.named_children()} == expected
    assert sum(expected.values()) == 70_433_988


@pytest.mark.parametrize(("deep", "parts"), [(False, 3), (True, 1)])
def test_the_latent_enters_in_chunks_and_in_the_deep_form_as_a_whole(deep: bool, parts: int) -> None:
    torch.manual_seed(0)
    G = BigganGenerator((1, 28, 20), 7, 3, width=8, max_width=16, embedding=5, attention=0, deep=deep)
    assert len(G.chunks) == parts and sum(G.chunks) == 7
    seen: list[Tensor] = []
    G.base.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for stage in G.stages:
        stage[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    latent, label = torch.randn(2, 7), torch.tensor([2, 0])
    G(latent, label)
    rows = G.embedding.weight[label]
    if deep:
        assert all(each.equal(torch.cat([latent, rows], 1)) for each in seen)
    else:
        chunks = latent.split([3, 2, 2], dim=1)
        assert seen[0].equal(chunks[0])
        assert all(each.equal(torch.cat([chunk, rows], 1)) for each, chunk in zip(seen[1:], chunks[1:], strict=True))


def test_a_latent_too_short_for_its_chunks_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"model\.latent must be at least 2, not 1"):
        game("biggan", "model.latent=1")
    with pytest.raises(UserError, match="attention is a number of pixels"):
        game("sagan", "model.generator.attention=-1")


@pytest.mark.parametrize("name", ["resnet-sngan", "sagan", "biggan"])
def test_what_the_paper_calls_for_is_there(name: str) -> None:
    built = game(name)
    attention = [isinstance(each, SelfAttention) for each in built.modules()].count(True)
    assert attention == (0 if name == "resnet-sngan" else 2)
    assert built.discriminator.head.embedding is not None, "no projection"
    names = {name for name, _ in built.named_parameters()}
    assert any("discriminator" in each and each.endswith("original") for each in names)
    assert any("generator" in each and each.endswith("original") for each in names) == (name != "resnet-sngan")
    free = [
        each for each in names if each.startswith("generator") and each.endswith(("embedding.weight", "gain.weight"))
    ]
    assert bool(free) and not any("parametrizations" in each for each in free if "embedding" in each)


@pytest.mark.parametrize("name", ["resnet-sngan", "sagan", "biggan"])
def test_without_labels_the_networks_take_none(name: str) -> None:
    built = game(name, classes=0).eval()
    assert built.generate(2, rng=torch.Generator().manual_seed(0))["data"].shape == (2, 1, 12, 8)
    assert built.discriminator.head.embedding is None


@pytest.mark.parametrize("name", ["resnet-sngan", "sagan", "biggan"])
@pytest.mark.parametrize("penalty", ["r1", "wgan_gp"])
def test_gradient_penalties_reach_every_weight_of_the_discriminator(name: str, penalty: str) -> None:
    built = game(name, f"loss.penalties.{penalty}.weight=1")
    for attend in (each for each in built.modules() if isinstance(each, SelfAttention)):
        nn.init.constant_(attend.gamma, 0.5)
    turn = built.turns(0)[0]
    batch = Batch(data=torch.randn(4, 1, 12, 8), label=torch.tensor([0, 1, 2, 0]))
    built.loss(turn, batch, 0)[penalty].backward()
    still = [
        name
        for name, value in built.discriminator.named_parameters()
        if value.ndim > 1 and (value.grad is None or not value.grad.any())
    ]
    assert still == []


def test_orthogonal_regularisation_leaves_the_shared_embedding_out() -> None:
    built = game("biggan")
    options = load_recipe("biggan").player("generator")[1]
    (term,) = weight_terms(built.generator, options).values()
    embedding = built.generator.embedding.weight
    assert torch.autograd.grad(term, embedding, allow_unused=True) == (None,)


def test_truncated_latents_reach_every_chunk() -> None:
    built = game("biggan", "model.latent=12").eval()
    codes = built.draw_codes(200, condition=None, rng=torch.Generator().manual_seed(0), truncation=0.5)
    assert codes["code"].shape == (200, 12)
    widest = [chunk.abs().max() for chunk in codes["code"].split(built.generator.chunks, dim=1)]
    assert all(0.9 < each <= 2 * 0.5 for each in widest)
    assert built.render(codes)["data"].shape == (200, 1, 12, 8)


def test_soft_labels_lie_between_classes() -> None:
    torch.manual_seed(0)
    G = SaganGenerator((1, 8, 8), 4, 2, width=4, attention=0).eval()
    for parameter in G.parameters():
        nn.init.normal_(parameter, std=0.3)
    latent = torch.randn(1, 4)
    walk = torch.cat([G(latent, torch.tensor([[1 - t, t]])) for t in torch.linspace(0, 1, 5)])
    assert walk[:1].allclose(G(latent, torch.tensor([0])), atol=1e-6)
    assert walk[-1:].allclose(G(latent, torch.tensor([1])), atol=1e-6)
    steps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1)
    assert steps.min() > 0 and steps.max() < (walk[-1] - walk[0]).norm()


def test_attention_maps_of_both_networks_are_to_be_had() -> None:
    built = game("sagan", shape=(1, 28, 28)).eval()
    with attention_maps(built) as seen:
        images = built.generate(2, condition=torch.tensor([0, 1]))["data"]
        built.discriminator(images, torch.tensor([0, 1]))
    assert sorted(name.split(".")[0] for name in seen) == ["discriminator", "generator"]
    for weights in seen.values():
        assert weights.shape == (2, 14, 14, 7, 7)
        assert weights.sum((3, 4)).allclose(torch.ones(2, 14, 14))
