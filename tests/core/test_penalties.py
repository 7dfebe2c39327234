"""Penalties against formulas written out sample by sample, and their second derivatives against numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparring.core import penalties
from sparring.core.penalties import PENALTIES, Played, bind_penalties
from sparring.errors import UserError

torch.set_num_threads(1)


class Scalar(nn.Sequential):
    """(N, 3) → (N, 1)"""

    shape = (3,)

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


class Flat(Scalar):
    """(N, 3) → (N,)"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


class Patches(nn.Sequential):
    """(N, 2, 4, 4) → (N, 1, 2, 2)"""

    shape = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(2, 3, 3, padding=1), nn.Softplus(), nn.Conv2d(3, 1, 2, stride=2))


each_network = pytest.mark.parametrize("network", [Scalar, Flat, Patches])
each_gradient_penalty = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r1", {}),
        ("r2", {}),
        ("r1_finite_difference", {"sigma": 0.1}),
        ("r2_finite_difference", {"sigma": 0.1}),
        ("wgan_gp", {}),
        ("wgan_gp", {"one_sided": True, "target": 0.2}),
        ("dragan", {"target": 0.5}),
        ("consistency", {"real": 2.0, "fake": 0.5}),
    ],
)


def played(network: type[nn.Module], count: int = 4, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Played]:
    torch.manual_seed(5)
    discriminator = network().to(dtype)
    real, fake = torch.randn(2, count, *network.shape, dtype=dtype)  # type: ignore[attr-defined]
    return discriminator, Played(discriminator, real, 0.5 * fake + 1, augment=lambda x: 0.9 * x.roll(1, -1))


def gradients(discriminate: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """∇D of the summed logits, one sample after the other, flat: (N, D)."""
    rows = [torch.func.grad(lambda x: discriminate(x[None]).sum())(sample).flatten() for sample in samples]
    return torch.stack(rows)


@each_network
def test_r1_equals_half_squared_gradient_norm(network: type[nn.Module]) -> None:
    discriminator, turn = played(network)
    expected = (gradients(discriminator, turn.real) ** 2).sum(1).mean() / 2
    torch.testing.assert_close(penalties.r1(turn), expected)


@each_network
def test_r2_is_r1_at_the_fakes(network: type[nn.Module]) -> None:
    discriminator, turn = played(network)
    expected = (gradients(discriminator, turn.fake) ** 2).sum(1).mean() / 2
    torch.testing.assert_close(penalties.r2(turn), expected)


@each_network
@pytest.mark.parametrize("one_sided", [False, True])
def test_wgan_gp_penalises_the_norm_between_real_and_fake(network: type[nn.Module], one_sided: bool) -> None:
    discriminator, turn = played(network)
    torch.manual_seed(9)
    value = penalties.wgan_gp(turn, target=0.4, one_sided=one_sided)
    torch.manual_seed(9)
    share = torch.rand(len(turn.real), dtype=torch.float64).view(-1, *[1] * (turn.real.ndim - 1))
    excess = gradients(discriminator, share * turn.real + (1 - share) * turn.fake).norm(dim=1) - 0.4
    if one_sided:
        assert (excess < 0).any() or network is Patches
        excess = excess.clamp(min=0)
    torch.testing.assert_close(value, (excess**2).mean())


def test_wgan_gp_points_lie_on_the_segments_one_share_a_sample() -> None:
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    real, fake = torch.ones(200, 2, 3), torch.zeros(200, 2, 3)
    penalties.wgan_gp(Played(record, real, fake))
    shares = seen[0].flatten(1)
    assert torch.equal(shares.amin(1), shares.amax(1))
    assert 0 <= shares.min() < 0.1 and 0.9 < shares.max() <= 1


@each_network
def test_dragan_penalises_the_norm_around_real_samples(network: type[nn.Module]) -> None:
    discriminator, turn = played(network)
    torch.manual_seed(9)
    value = penalties.dragan(turn, scale=0.7, target=0.4)
    torch.manual_seed(9)
    real = turn.real
    spread = ((real - real.mean()) ** 2).mean().sqrt()
    near = real + 0.7 * spread * torch.rand(real.shape, dtype=torch.float64)
    torch.testing.assert_close(value, ((gradients(discriminator, near).norm(dim=1) - 0.4) ** 2).mean())


@each_network
@pytest.mark.parametrize(("own", "side"), [("r1", "real"), ("r2", "fake")])
def test_finite_difference_converges_to_the_exact_penalty(network: type[nn.Module], own: str, side: str) -> None:
    discriminator, turn = played(network)
    many = {"real": turn.real, "fake": turn.fake} | {side: getattr(turn, side).repeat(5000, *[1] * len(network.shape))}  # type: ignore[attr-defined]
    with torch.no_grad():
        estimate = PENALTIES[f"{own}_finite_difference"](Played(discriminator, **many), sigma=1e-4)
    torch.testing.assert_close(estimate, PENALTIES[own](turn).detach(), rtol=0.05, atol=0)


def test_finite_difference_in_float32_keeps_its_digits_at_the_default_sigma() -> None:
    discriminator, turn = played(Scalar, dtype=torch.float32)
    torch.manual_seed(3)
    single = penalties.r1_finite_difference(turn)
    torch.manual_seed(3)
    noise = torch.randn_like(turn.real).double()
    slopes = (gradients(discriminator.double(), turn.real.double()) * noise).sum(1)
    torch.testing.assert_close(single.double(), (slopes**2).mean() / 2, rtol=0.05, atol=0)


@each_network
def test_consistency_weighs_the_squared_change_of_both_sides(network: type[nn.Module]) -> None:
    discriminator, turn = played(network)
    assert turn.augment

    def change(samples: Tensor) -> Tensor:
        assert turn.augment
        return ((discriminator(samples) - discriminator(turn.augment(samples))) ** 2).mean()

    expected = 2.0 * change(turn.real) + 0.5 * change(turn.fake)
    torch.testing.assert_close(penalties.consistency(turn, real=2.0, fake=0.5), expected)


def test_consistency_without_an_augmentation_is_an_error() -> None:
    _, turn = played(Scalar)
    turn.augment = None
    with pytest.raises(UserError, match="augmentation"):
        penalties.consistency(turn)


@each_gradient_penalty
@each_network
def test_second_derivatives_pass_a_numerical_check(
    network: type[nn.Module], name: str, options: dict[str, Any]
) -> None:
    discriminator, turn = played(network, count=2)
    names, weights = zip(*discriminator.named_parameters(), strict=True)

    def penalty(*values: Tensor) -> Tensor:
        torch.manual_seed(11)  # the same noise at every evaluation
        current = dict(zip(names, values, strict=True))
        turn.discriminate = lambda x: functional_call(discriminator, current, (x,))
        return PENALTIES[name](turn, **options)

    assert torch.autograd.gradcheck(penalty, weights, atol=1e-6)


@pytest.mark.parametrize("name", ["r1", "wgan_gp"])
def test_third_derivatives_pass_a_numerical_check(name: str) -> None:
    discriminator, turn = played(Scalar, count=2)
    names, weights = zip(*discriminator.named_parameters(), strict=True)

    def penalty(first: Tensor) -> Tensor:
        torch.manual_seed(11)
        current = dict(zip(names, [first, *weights[1:]], strict=True))
        turn.discriminate = lambda x: functional_call(discriminator, current, (x,))
        return PENALTIES[name](turn)

    assert torch.autograd.gradgradcheck(penalty, (weights[0],), atol=1e-5)


@pytest.mark.parametrize("name", ["wgan_gp", "dragan", "r1", "r2"])
def test_gradient_at_a_constant_discriminator_is_not_nan(name: str) -> None:
    discriminator, turn = played(Scalar, dtype=torch.float32)
    for parameter in discriminator.parameters():
        nn.init.zeros_(parameter)
    PENALTIES[name](turn).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in discriminator.parameters())


@pytest.mark.parametrize(("name", "side"), [("r1", "real"), ("r2", "fake"), ("r1_finite_difference", "real")])
def test_given_logits_save_a_forward_pass_and_change_nothing(name: str, side: str) -> None:
    discriminator, turn = played(Patches)
    samples = getattr(turn, side).requires_grad_()
    torch.manual_seed(1)
    expected = PENALTIES[name](turn)
    calls: list[int] = []
    turn.discriminate = lambda x: calls.append(1) or discriminator(x)  # type: ignore[func-returns-value]
    setattr(turn, f"{side}_logits", discriminator(samples))
    torch.manual_seed(1)
    value = PENALTIES[name](turn)
    assert len(calls) == ("finite" in name)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    ours = torch.autograd.grad(value, list(discriminator.parameters()), retain_graph=True, allow_unused=True)
    plain = torch.autograd.grad(expected, list(discriminator.parameters()), allow_unused=True)
    for own, other in zip(ours, plain, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-14)


def test_logits_of_samples_without_gradients_are_computed_again() -> None:
    discriminator, turn = played(Scalar)
    expected = penalties.r1(turn)
    turn.real_logits = discriminator(turn.real)
    torch.testing.assert_close(penalties.r1(turn), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["r1", "r2", "wgan_gp", "dragan", "r1_finite_difference"])
def test_penalty_under_autocast_equals_that_in_float32(name: str) -> None:
    _, turn = played(Patches, dtype=torch.float32)
    torch.manual_seed(2)
    expected = PENALTIES[name](turn)
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = PENALTIES[name](turn)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_wgan_gp_of_unpaired_batches_is_an_error() -> None:
    discriminator, turn = played(Scalar)
    with pytest.raises(ValueError, match="pairs"):
        penalties.wgan_gp(Played(discriminator, turn.real, turn.fake[:1]))


def test_lazy_penalty_is_played_at_its_interval_and_weighted_by_it() -> None:
    _, turn = played(Scalar)
    (lazy,) = bind_penalties({"r1": {"weight": 5.0, "every": 4}})
    terms = [lazy.term(turn, step) for step in range(9)]
    assert [step for step, term in enumerate(terms) if term is not None] == [0, 4, 8]
    torch.testing.assert_close(terms[4], 5.0 * 4 * penalties.r1(turn))


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_a_share_of_the_batch_costs_that_part_and_is_the_penalty_of_its_samples(name: str) -> None:
    discriminator, turn = played(Scalar)
    judged: list[int] = []

    def counting(samples: Tensor) -> Tensor:
        judged.append(len(samples))
        return discriminator(samples)

    (lazy,) = bind_penalties({name: {"weight": 5.0, "share": 0.5}})
    half = len(turn.real) // 2
    expected = PENALTIES[name](Played(discriminator, turn.real[:half], turn.fake[:half]))
    torch.testing.assert_close(lazy.term(Played(counting, turn.real, turn.fake), 0), 5.0 * expected)
    assert judged == [half]


def test_the_smallest_share_is_one_sample_and_given_logits_of_the_whole_stay_behind() -> None:
    discriminator, turn = played(Scalar)
    real = turn.real.clone().requires_grad_()
    (lazy,) = bind_penalties({"r1": {"weight": 1.0, "share": 1e-6}})
    term = lazy.term(Played(discriminator, real, turn.fake, real_logits=discriminator(real)), 0)
    torch.testing.assert_close(term, penalties.r1(Played(discriminator, turn.real[:1], turn.fake[:1])))


def test_penalties_are_bound_with_their_options_in_order() -> None:
    discriminator, turn = played(Scalar)
    first, second = bind_penalties(
        {"wgan_gp": {"weight": 10, "target": 3.0}, "sparring.core.penalties:r2": {"weight": 1}}
    )
    assert (first.name, first.weight, first.every) == ("wgan_gp", 10.0, 1)
    nn.init.zeros_(discriminator[0].weight)  # type: ignore[index]
    torch.testing.assert_close(first.term(turn, 0), torch.tensor(90.0, dtype=torch.float64), rtol=1e-5, atol=0)
    assert second.term(turn, 3) is not None


def test_penalty_of_weight_zero_is_off() -> None:
    _, turn = played(Scalar)
    (lazy,) = bind_penalties({"r1": {"weight": 0}})
    assert lazy.term(turn, 0) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"r3": {"weight": 1}}, "unknown penalty 'r3'"),
        ({"r1": {"wieght": 1}}, r"'loss\.penalties\.r1\.wieght' \(did you mean 'weight'"),
        ({"wgan_gp": {"weight": 1, "targets": 0}}, "did you mean 'target'"),
        ({"r1": {}}, r"'loss\.penalties\.r1\.weight' is missing"),
        ({"r1": {"weight": -1}}, "at least 0"),
        ({"r1": {"weight": 1, "every": 0}}, "at least 1 step"),
        ({"r1": {"weight": 1, "share": 0}}, "above 0 and at most 1"),
        ({"r1": {"weight": 1, "share": 1.5}}, "above 0 and at most 1"),
        ({"r1": 5}, "give a mapping"),
        ({"r1_finite_difference": {"weight": 1, "sigma": 0}}, "above 0"),
    ],
)
def test_mistakes_in_the_recipe_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bind_penalties(spec)
