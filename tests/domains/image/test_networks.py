"""What every image network promises, and what each one is known for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring.core.adversarial import mixes_samples
from sparring.core.initialize import initialize
from sparring.core.losses import keywords
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.options import call

torch.set_num_threads(1)

Shape = tuple[int, int, int]
SHAPES = [(1, 8, 8), (3, 5, 7), (1, 28, 28), (2, 33, 20), (3, 45, 30), (4, 64, 32), (1, 4, 40), (1, 4, 4)]
LATENT = 6
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {"width": 8}),
    "dcgan": ("dcgan", {"width": 4}),
    "resnet": ("resnet", {"width": 8, "blocks": 1}),
    "multires-convolution": ("multires", {"width": 4, "fusion": "convolution"}),
    "multires-attention": ("multires", {"width": 4, "fusion": "attention"}),
    "multires-recurrent": ("multires", {"width": 4, "fusion": "recurrent"}),
    "sngan": ("sagan", {"width": 4, "attention": 0}),
    "sagan": ("sagan", {"width": 8, "attention": 8}),
    "biggan": ("biggan", {"width": 8, "attention": 8}),
    "biggan-deep": ("biggan", {"width": 8, "attention": 8, "deep": True}),
}
each_network = pytest.mark.parametrize("case", CASES)
each_classes = pytest.mark.parametrize("classes", [0, 5])
each_condition = pytest.mark.parametrize("condition", ["concat", "projection"])
Build = Callable[..., Any]


@pytest.fixture
def generator() -> Build:
    def build(case: str, shape: Shape, classes: int = 0, **options: Any) -> nn.Module:
        torch.manual_seed(0)
        name, given = CASES[case]
        return wake(call(GENERATORS[name], {**given, **options}, shape, LATENT, classes, where="model.generator"))

    return build


@pytest.fixture
def discriminator() -> Build:
    def build(case: str, shape: Shape, classes: int = 0, **options: Any) -> nn.Module:
        torch.manual_seed(0)
        name, given = CASES[case]
        # Batch norm joins the samples of a batch on purpose; these claims are about networks without it.
        given = {"norm": "none", **given} if name == "dcgan" else given
        return wake(call(DISCRIMINATORS[name], {**given, **options}, shape, classes, where="model.discriminator"))

    return build


def wake(network: nn.Module) -> nn.Module:
    """Give weights that start at zero (Fixup, attention's γ) a value, so that what lies behind them shows."""
    for parameter in network.parameters():
        if parameter.dim() != 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def labels(count: int, classes: int) -> Tensor | None:
    return torch.arange(count) % classes if classes else None


@each_classes
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (3, 28, 28), (2, 33, 20)], ids=str)
def test_patched_dcgan_fits_images_of_every_shape_and_leaves_out_the_largest_stage(
    shape: Shape, classes: int, generator: Build, discriminator: Build
) -> None:
    G, D = generator("dcgan", shape, classes, patch=2), discriminator("dcgan", shape, classes, patch=2)
    sides: list[int] = []
    for layer in [*G.modules(), *D.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(
                lambda _, inputs, output: sides.extend([*inputs[0].shape[2:], *output.shape[2:]])
            )
    label = labels(2, classes)
    images = G(torch.randn(2, LATENT), label)
    assert images.shape == (2, *shape)
    assert D(images, label).shape == (2,)
    assert max(sides) == (max(shape[1:]) + 1) // 2


@each_network
@each_classes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_networks_fit_images_of_every_shape(
    case: str, classes: int, shape: Shape, generator: Build, discriminator: Build
) -> None:
    label = labels(2, classes)
    images = generator(case, shape, classes)(torch.randn(2, LATENT), label)
    assert images.shape == (2, *shape)
    judge = discriminator(case, shape, classes)
    features = judge.features(images, label)
    assert features.shape == (2, judge.feature_count)
    assert judge(images, label).shape == (2,)
    assert judge(images, label).allclose(judge.score(features, label))


@each_network
def test_generated_values_stay_in_range_where_the_paper_bounds_them(case: str, generator: Build) -> None:
    images = generator(case, (1, 8, 8))(100 * torch.randn(64, LATENT))
    assert images.abs().max() <= 1 or case == "resnet"


def test_dcgan_at_64_pixels_is_the_published_one() -> None:
    G = GENERATORS["dcgan"]((3, 64, 64), 100, 0, width=64)
    D = DISCRIMINATORS["dcgan"]((3, 64, 64), 0, width=64)
    assert sum(parameter.numel() for parameter in G.parameters()) == 3_576_704
    assert sum(parameter.numel() for parameter in D.parameters()) == 2_765_568


@each_network
def test_label_changes_what_is_generated(case: str, generator: Build) -> None:
    G = generator(case, (1, 8, 8), 5).eval()
    latent = torch.randn(3, LATENT)
    one, other = (G(latent, torch.full((3,), label)) for label in (1, 2))
    assert (one - other).flatten(1).abs().amax(1).min() > 1e-4


@each_network
@each_condition
def test_label_changes_the_verdict(case: str, condition: str, discriminator: Build) -> None:
    D = discriminator(case, (1, 8, 8), 5, condition=condition).eval()
    images = torch.randn(3, 1, 8, 8)
    one, other = (D(images, torch.full((3,), label)) for label in (1, 2))
    assert (one - other).abs().min() > 1e-5


@each_network
def test_conditional_networks_refuse_to_guess_a_label(case: str, generator: Build, discriminator: Build) -> None:
    with pytest.raises(ValueError, match="give it a label"):
        generator(case, (1, 8, 8), 5)(torch.randn(2, LATENT))
    with pytest.raises(ValueError, match="give it a label"):
        discriminator(case, (1, 8, 8), 5)(torch.randn(2, 1, 8, 8))


@each_network
@each_classes
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 9)], ids=str)
def test_every_parameter_of_a_generator_learns(case: str, classes: int, shape: Shape, generator: Build) -> None:
    G = generator(case, shape, classes)
    G(torch.randn(8, LATENT), labels(8, classes)).square().sum().backward()
    assert [name for name, value in G.named_parameters() if value.grad is None or not value.grad.any()] == []


@each_network
@each_classes
@each_condition
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 9)], ids=str)
def test_every_parameter_of_a_discriminator_learns(
    case: str, classes: int, condition: str, shape: Shape, discriminator: Build
) -> None:
    D = discriminator(case, shape, classes, condition=condition)
    D(torch.randn(8, *shape), labels(8, classes)).square().sum().backward()
    assert [name for name, value in D.named_parameters() if value.grad is None or not value.grad.any()] == []


@each_network
@each_condition
def test_gradient_penalty_has_the_gradient_that_finite_differences_find(
    case: str, condition: str, discriminator: Build
) -> None:
    shape = (1, 9, 6)
    D = discriminator(case, shape, 3, condition=condition).double()
    x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)

    def penalty(network: nn.Module) -> Tensor:
        (gradient,) = torch.autograd.grad(network(x, labels(4, 3)).sum(), x, create_graph=True)
        return gradient.square().sum()

    parameters = list(D.parameters())
    gradients = torch.autograd.grad(penalty(D), parameters, allow_unused=True, materialize_grads=True)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    step = 1e-7  # so short that hardly a leaky ReLU changes sides: the penalty jumps there

    def moved(distance: float) -> float:
        network = copy.deepcopy(D)
        with torch.no_grad():
            for parameter, along in zip(network.parameters(), direction, strict=True):
                parameter += distance * along
        return penalty(network).item()

    expected = (moved(step) - moved(-step)) / (2 * step)
    found = sum((gradient * along).sum().item() for gradient, along in zip(gradients, direction, strict=True))
    assert found != 0
    assert found == pytest.approx(expected, rel=1e-4)


@each_network
def test_samples_do_not_see_each_other_without_batch_norm(case: str, discriminator: Build) -> None:
    D = discriminator(case, (1, 12, 9), 5)
    assert not mixes_samples(D)
    a, b = torch.randn(2, 1, 12, 9), torch.randn(3, 1, 12, 9)
    apart = torch.cat([D(a, labels(2, 5)), D(b, labels(3, 5))])
    together = D(torch.cat([a, b]), torch.tensor([0, 1, 0, 1, 2]))
    assert together.allclose(apart, atol=1e-5)


@pytest.mark.parametrize("norm", ["layer", "instance", "group"])
def test_dcgan_takes_every_norm_and_only_batch_norm_joins_samples(norm: str, discriminator: Build) -> None:
    D = discriminator("dcgan", (1, 12, 9), norm=norm)
    a, b = torch.randn(2, 1, 12, 9), torch.randn(3, 1, 12, 9)
    assert D(torch.cat([a, b])).allclose(torch.cat([D(a), D(b)]), atol=1e-5)
    assert mixes_samples(discriminator("dcgan", (1, 12, 9), norm="batch"))


@pytest.mark.parametrize("name", [name for name, each in DISCRIMINATORS.items() if "dropout" in keywords(each)])
def test_dropout_acts_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    D = DISCRIMINATORS[name]((1, 8, 8), 0, width=8, dropout=0.5)
    x = torch.randn(4, 1, 8, 8)
    assert not D(x).equal(D(x))
    D.eval()
    assert D(x).equal(D(x))


@pytest.mark.parametrize("blocks", [1, 6])
def test_resnet_starts_with_images_and_verdicts_of_unit_order_however_deep(blocks: int) -> None:
    torch.manual_seed(0)
    G = GENERATORS["resnet"]((3, 32, 32), 64, 0, width=16, blocks=blocks)
    D = DISCRIMINATORS["resnet"]((3, 32, 32), 0, width=16, blocks=blocks)
    smooth = torch.randn(64, 3, 1, 1).expand(-1, -1, 32, 32)
    assert 0.1 < G(torch.randn(64, 64)).std() < 3
    assert 0.1 < D(smooth).std() < 3


def test_recipe_s_initialiser_leaves_the_resnet_its_own() -> None:
    for network in (GENERATORS["resnet"]((1, 8, 8), 6, 3, width=8), DISCRIMINATORS["resnet"]((1, 8, 8), 3, width=8)):
        expected = {name: value.std() for name, value in network.named_parameters() if value.numel() > 500}
        initialize(network, {"name": "normal", "std": 0.5})
        for name, value in network.named_parameters():
            if name in expected:
                assert value.std().item() == pytest.approx(expected[name].item(), rel=0.2), name


@pytest.mark.parametrize("fusion", ["convolution", "attention", "recurrent"])
def test_coarse_content_of_an_image_reaches_the_features_of_the_fine_stream(fusion: str, discriminator: Build) -> None:
    D = discriminator("multires-" + fusion, (1, 16, 16))
    x = torch.randn(2, 1, 16, 16)
    fine = slice(-4, None)  # the finest stream's features come last, `width` of them
    before = D.features(x)[:, fine]
    # Block the coarsest stream's entry: only what the fusion carried over can differ.
    nn.init.zeros_(D.from_image[0].weight)
    assert (D.features(x)[:, fine] - before).abs().max() > 1e-4


def test_attention_carries_one_pixel_across_the_whole_image_in_one_round(discriminator: Build) -> None:
    def farthest_corner(case: str) -> Tensor:
        D = discriminator(case, (1, 64, 64), rounds=1)
        fine: list[Tensor] = []
        D.rounds[-1].register_forward_hook(lambda _module, _inputs, streams: fine.append(streams[-1][0, :, -1, -1]))
        x = torch.randn(1, 1, 64, 64)
        D(x)
        x[0, 0, 0, 0] += 10
        D(x)
        return (fine[0] - fine[1]).abs().max()

    assert farthest_corner("multires-attention") > 0
    assert farthest_corner("multires-convolution") == 0


@each_network
def test_unknown_option_is_an_error_that_names_the_nearest(case: str, generator: Build, discriminator: Build) -> None:
    for build in (generator, discriminator):
        with pytest.raises(UserError, match=r"unknown key 'model\.\w+\.widht' \(did you mean 'width'\?\)"):
            build(case, (1, 8, 8), widht=3)


def test_impossible_options_are_errors_of_one_line(generator: Build, discriminator: Build) -> None:
    with pytest.raises(UserError, match="width must be at least 1"):
        generator("dcgan", (1, 8, 8), width=0)
    with pytest.raises(UserError, match="dropout is a probability"):
        discriminator("mlp", (1, 8, 8), dropout=1.5)
    with pytest.raises(UserError, match="fusion"):
        generator("multires-attention", (1, 8, 8), fusion="magic")
    with pytest.raises(UserError, match="group_size"):
        generator("resnet", (1, 8, 8), width=9, group_size=16)


def test_mlp_s_widths_are_the_textbook_s() -> None:
    G, D = GENERATORS["mlp"]((1, 8, 8), LATENT, 0), DISCRIMINATORS["mlp"]((1, 8, 8), 0)
    assert [layer.out_features for layer in G.modules() if isinstance(layer, nn.Linear)] == [256, 512, 1024, 64]
    assert [layer.out_features for layer in D.modules() if isinstance(layer, nn.Linear)] == [512, 256, 1]
