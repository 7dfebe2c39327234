"""StyleGAN3: the published networks, images that follow their input, and what changes in training survives a restart."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec
from sparring.domains import open_domain
from sparring.domains.image import motion
from sparring.domains.image.games.alias_free import gaussian
from sparring.domains.image.networks.stylegan3 import Stylegan3Generator, schedule
from sparring.errors import UserError
from sparring.metrics.equivariance import decibels, rotation_errors, translation_errors
from sparring.nn.alias_free import FilteredLeakyReLU
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

Size = tuple[int, int]


def parameters(*, size: int, **options: Any) -> int:
    with torch.device("meta"):
        generator = Stylegan3Generator((3, size, size), 512, 0, **options)
    return sum(parameter.numel() for parameter in generator.parameters())


def test_the_published_networks_have_the_published_size() -> None:
    # 22.3 M: Karras et al. 2021, fig. 5, configuration T for FFHQ-U at 1024 pixels.
    assert parameters(size=1024, width=32, max_width=512) == 22_313_167
    assert parameters(size=1024, width=64, max_width=1024, equivariance="rotation") == 15_093_151


@pytest.mark.parametrize(
    ("recipe", "kernel", "widths"),
    [
        ("stylegan3-t-256", 3, [512] * 9 + [362, 256, 181, 128, 128]),
        ("stylegan3-r-256", 1, [1024] * 9 + [724, 512, 362, 256, 256]),
    ],
)
def test_the_paper_presets_have_the_sum_of_their_layers(recipe: str, kernel: int, widths: list[int]) -> None:
    model = load_recipe(recipe).model
    options = {key: value for key, value in model["generator"].items() if key != "name"}
    mapping = 2 * (512 * 512 + 512)
    wave = widths[0] ** 2 + 4 * (512 + 1)
    pairs = [*zip([widths[0], *widths], widths, strict=False)]
    convolutions = sum((512 + 1) * before + before * after * kernel**2 + after for before, after in pairs)
    image = (512 + 1) * widths[-1] + widths[-1] * 3 + 3
    assert parameters(size=256, **options) == mapping + wave + convolutions + image


def test_the_signals_at_256_pixels_are_the_papers() -> None:
    signals = schedule((256, 256), convolutions=14, critical=2, margin=10)
    # Karras et al. 2021, fig. 4c: rates double where the stopband asks for it, and two layers are critically sampled.
    assert [signal.rate for signal in signals] == [16, 16, 16, 32, 32, 64, 64, 128, 128, 128, *[256] * 5]
    assert [signal.size[0] for signal in signals[:-2]] == [signal.rate + 20 for signal in signals[:-2]]
    assert [signal.size for signal in signals[-2:]] == [(256, 256)] * 2
    ratios = [after.cutoff / before.cutoff for before, after in pairwise(signals[:13])]
    assert ratios == pytest.approx([64 ** (1 / 12)] * 12)
    assert [signal.cutoff for signal in signals[12:]] == [128.0] * 3
    assert signals[0].cutoff == 2
    # Nothing that a layer keeps is beyond what its rate can hold, and the transition ends there or at the stopband.
    assert all(signal.cutoff <= signal.rate / 2 <= signal.cutoff + signal.half_width for signal in signals)


@pytest.mark.parametrize("size", [(28, 28), (20, 45), (64, 24), (4, 5), (33, 17)])
def test_signals_of_any_size_end_at_the_image_and_rates_double(size: Size) -> None:
    signals = schedule(size, convolutions=6, critical=2, margin=3)
    assert signals[-1].size == signals[-2].size == size and signals[-1].rate == max(size)
    for before, after in pairwise(signals):
        assert math.log2(after.rate / before.rate).is_integer() and after.rate >= before.rate


def small(size: Size, equivariance: str = "translation", classes: int = 0, **options: Any) -> Stylegan3Generator:
    torch.manual_seed(0)
    given = {"width": 8, "max_width": 12, "code": 8, "convolutions": 5, "margin": 8, **options}
    return Stylegan3Generator((2, *size), 6, classes, equivariance=equivariance, **given)


def moved(generator: Stylegan3Generator, codes: Tensor, matrix: list[list[float]] | None = None) -> Tensor:
    """Images with a deviation of ½, of codes and what each place looks at instead."""
    with torch.no_grad():
        plain = generator.synthesis(codes)
        images = plain if matrix is None else generator.synthesis(codes, transform=torch.tensor(matrix))
    return images * 0.5 / plain.std()


def eq_t(generator: Stylegan3Generator, size: Size, shift: tuple[float, float]) -> float:
    codes = generator.mapping(torch.randn(4, 6))[:, None].expand(-1, generator.layers, -1)
    down, right = (distance / max(size) for distance in shift)
    there = moved(generator, codes, [[1.0, 0.0, -right], [0.0, 1.0, -down]])
    return decibels(translation_errors(moved(generator, codes), there, shift))


def eq_r(generator: Stylegan3Generator, angle: float) -> float:
    codes = generator.mapping(torch.randn(4, 6))[:, None].expand(-1, generator.layers, -1)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = moved(generator, codes, [[cosine, sine, 0.0], [-sine, cosine, 0.0]])
    return decibels(rotation_errors(moved(generator, codes), turned, angle))


class Aliased(nn.Module):
    """What other networks do in its place: leaky ReLU between the same sizes, nearest neighbours, no filters."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.leaky_relu(x, 0.2), size=self.size, mode="nearest")


def without_filters(generator: Stylegan3Generator, size: Size, margin: int = 8) -> Stylegan3Generator:
    signals = schedule(size, convolutions=5, critical=2, margin=margin)
    for convolution, signal in zip(generator.synthesis.convolutions, signals, strict=False):
        convolution.activate = Aliased(signal.size)
    return generator


@pytest.mark.parametrize("equivariance", ["translation", "rotation"])
@pytest.mark.parametrize("size", [(32, 32), (28, 36)])
def test_images_follow_translations_of_the_input(size: Size, equivariance: str) -> None:
    generator = small(size, equivariance).eval()
    assert eq_t(generator, size, (2.0, -3.0)) > 45
    assert eq_t(generator, size, (1.37, -2.61)) > 45
    aliased = eq_t(without_filters(generator, size), size, (1.37, -2.61))
    assert aliased < 30


def test_images_of_configuration_r_follow_rotations_and_those_of_t_do_not() -> None:
    turning, moving = (small((32, 32), kind).eval() for kind in ("rotation", "translation"))
    for angle in (0.6, 2.0):
        assert eq_r(turning, angle) > 50
        assert eq_r(moving, angle) < 30


def test_configuration_r_looks_at_single_places_and_filters_alike_in_all_directions_but_at_full_bandwidth() -> None:
    for kind, kernel, dimensions in (("rotation", 1, [2, 2, 2, 1, 1]), ("translation", 3, [1, 1, 1, 1, 1])):
        layers = small((32, 32), kind).synthesis.convolutions
        assert [layer.weight.shape[-1] for layer in layers] == [kernel] * 5
        assert [layer.activate.down_filter.ndim for layer in layers] == dimensions
        # Fig. 4b: filters up are products for both.
        assert {layer.activate.up_filter.ndim for layer in layers} == {1}


@pytest.mark.parametrize("equivariance", ["translation", "rotation"])
def test_second_derivatives_through_a_whole_synthesis_are_right(equivariance: str) -> None:
    generator = (
        small((5, 4), equivariance, width=2, max_width=2, code=2, convolutions=2, critical=1, margin=1).double().eval()
    )
    codes = torch.randn(1, generator.layers, 2, dtype=torch.float64, requires_grad=True)
    weight = generator.synthesis.convolutions[0].weight.detach().clone().requires_grad_()

    def synthesis(codes: Tensor, weight: Tensor) -> Tensor:
        image: Tensor = torch.func.functional_call(generator.synthesis, {"convolutions.0.weight": weight}, (codes,))
        return image[..., 2:4, 1]

    assert torch.autograd.gradcheck(synthesis, (codes, weight))
    assert torch.autograd.gradgradcheck(synthesis, (codes, weight))


@pytest.mark.parametrize("shape", [(1, 28, 28), (4, 9, 13), (3, 20, 45), (2, 4, 4), (1, 8, 40)])
@pytest.mark.parametrize("label", [None, "numbers", "vectors"])
def test_every_shape_and_label_makes_an_image(shape: tuple[int, int, int], label: str | None) -> None:
    torch.manual_seed(0)
    classes = 3 if label else 0
    generator = Stylegan3Generator(shape, 6, classes, width=4, max_width=6, code=8, convolutions=4, margin=2)
    given = {None: None, "numbers": torch.tensor([0, 2]), "vectors": torch.tensor([[1.0, 0, 0], [0, 0, 1]])}[label]
    latent = torch.randn(2, 6)
    images = generator.eval()(latent, given)
    assert images.shape == (2, *shape) and images.isfinite().all()
    codes = generator.mapping(latent, given)[:, None].expand(-1, generator.layers, -1)
    for noise in ("random", "constant"):
        torch.testing.assert_close(generator.synthesis(codes, noise), images)


def test_magnitudes_are_followed_in_training_alone_and_forgotten_by_half_after_so_many_images() -> None:
    generator = small((8, 8), half_life=10)
    layer = generator.synthesis.convolutions[0]
    x = 3 * torch.ones(5, layer.weight.shape[1], 1, 1)
    layer.eval()
    layer(x.expand(-1, -1, 24, 24), torch.zeros(5, 8))
    assert layer.power == 1
    layer.train()
    for _ in range(2):
        layer(x.expand(-1, -1, 24, 24), torch.zeros(5, 8))
    torch.testing.assert_close(layer.power, torch.tensor(0.5 * 1 + 0.5 * 9))


def test_the_magnitude_of_what_comes_in_does_not_show_once_it_is_known() -> None:
    layer = small((8, 8)).synthesis.convolutions[0].eval()
    x, code = torch.randn(2, layer.weight.shape[1], 24, 24), torch.randn(2, 8)
    expected = layer(x, code)
    layer.power.fill_(100.0)
    torch.testing.assert_close(layer(10 * x, code), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critical": 5}, "below convolutions"),
        ({"margin": -1}, "margin"),
        ({"width": 0}, "width"),
        ({"half_life": 0}, "half_life"),
    ],
)
def test_numbers_that_make_no_network_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small((16, 16), **options)


# The game


class Noise:
    """Random images."""

    def __init__(self) -> None:
        self.images = torch.rand(24, 1, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.spec = DataSpec((1, 8, 12), (), 24)
        self.fingerprint, self.broken = "noise", []

    def __len__(self) -> int:
        return 24

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices])


def tiny(*keys: str) -> Recipe:
    sizes = ["model.generator.width=4", "model.generator.max_width=4", "model.generator.convolutions=3", "model.generator.code=4",
             "model.discriminator.width=4", "train.batch_size=4", "model.latent=4"]  # fmt: skip
    return load_recipe("stylegan3-r").override([*sizes, "train.steps=6", "train.checkpoint_every=3", *keys])


def make_trainer(folder: Path, *keys: str) -> Trainer:
    seed_everything(0)
    game = open_domain("image").build_game(tiny(*keys), Noise().spec)
    return Trainer(game, Noise(), tiny(*keys), Engine(device="cpu"), Run(folder), say=lambda text: None)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    keys = ("model.blur={sigma: 2, images: 16}", "train.ema.half_life=20", "model.generator.half_life=20")
    whole = make_trainer(tmp_path / "whole", *keys)
    whole.train()
    assert whole.game.generator.synthesis.convolutions[1].power != 1
    resumed = make_trainer(tmp_path / "resumed", *keys)
    (checkpoint,) = [each for each in list_checkpoints(tmp_path / "whole" / "checkpoints") if each.step == 3]
    resumed.load(checkpoint)
    resumed.train()
    for one, other in ((whole.game.state_dict(), resumed.game.state_dict()),
                       (whole.average.tensors(), resumed.average.tensors())):  # fmt: skip
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_game_mixes_no_styles_and_regularises_no_paths_but_blurs_less_and_less() -> None:
    game: Any = open_domain("image").build_game(tiny("model.blur={sigma: 2, images: 16}"), Noise().spec)
    assert game.mixing == 0 and game.path.weight == 0
    point = torch.zeros(1, 1, 15, 15)
    point[..., 7, 7] = 1
    # A batch of 4: after two steps half of the way is gone, after four all of it.
    for step, sigma in ((0, 2.0), (2, 1.0)):
        row = gaussian(sigma)
        expected = F.pad(row[:, None] * row[None, :], [7 - len(row) // 2] * 4)
        torch.testing.assert_close(game.disturb(point, step)[0, 0], expected)
    torch.testing.assert_close(game.disturb(point, 4), point)


def test_the_gaussian_has_its_deviation() -> None:
    row = gaussian(3.0)
    place = torch.arange(len(row)) - (len(row) - 1) / 2
    assert float(row.sum()) == pytest.approx(1) and float((row * place.square()).sum()) ** 0.5 == pytest.approx(
        3, rel=0.02
    )


def test_filters_are_not_kept_in_checkpoints_but_what_was_drawn_is() -> None:
    names = set(small((8, 8)).state_dict())
    assert {
        "synthesis.input.frequencies",
        "synthesis.input.phases",
        "synthesis.to_image.power",
        "mapping.mean_code",
    } <= names
    assert not any("filter" in name or "grid" in name for name in names)
    assert any(isinstance(module, FilteredLeakyReLU) for module in small((8, 8)).modules())


def test_evaluation_tells_images_that_follow_their_input_from_images_that_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(motion, "SAMPLES", 6)
    monkeypatch.setattr(motion, "AT_ONCE", 2)
    game: Any = open_domain("image").build_game(tiny("model.generator.margin=8"), Noise().spec).eval()
    synthesis = game.generator.synthesis
    with torch.no_grad():
        synthesis.to_image.weight.mul_(0.5 / game.generate(8, rng=torch.Generator().manual_seed(1))["data"].std())
        seen = motion.probe(game, 0)
        assert seen.rows["features"].shape == (6, 6)
        found = motion.measure(seen.rows, seen.rows, 0)
        assert min(found["eq_t"].number, found["eq_t_frac"].number) > 40
        forward = synthesis.forward
        monkeypatch.setattr(synthesis, "forward", lambda codes, transform=None: forward(codes))
        still = motion.probe(game, 0)
    stayed = motion.measure(still.rows, still.rows, 0)
    assert all(stayed[name].number < found[name].number - 10 for name in ("eq_t", "eq_t_frac"))
    nothing = Batch(features=torch.zeros(3, 6))  # images that are too small for places to compare
    assert not motion.measure(nothing, nothing, 0)


def test_a_generator_whose_input_cannot_be_moved_is_refused() -> None:
    recipe = load_recipe("dcgan").override(["model.generator.width=4", "model.discriminator.width=4"])
    with pytest.raises(UserError, match="which this generator does not offer; stylegan3-t does"):
        motion.probe(open_domain("image").build_game(recipe, Noise().spec), 0)
