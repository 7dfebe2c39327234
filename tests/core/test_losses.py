"""Every loss gets the same battery: value, gradient, patches, half precision, extremes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.core import losses
from sparring.core.losses import LOSSES, AdversarialLoss, bind, flip_labels
from sparring.errors import UserError

torch.set_num_threads(1)

Side = Callable[[Tensor, Tensor], Tensor]


def log_d(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def log_not_d(x: Tensor) -> Tensor:
    return (1 - 1 / (1 + (-x).exp())).log()


def bce(x: Tensor, target: float) -> Tensor:
    return -(target * log_d(x) + (1 - target) * log_not_d(x)).mean()


# The papers' formulas, written naively: (discriminator, generator).
FORMULAS: dict[str, tuple[Side, Side]] = {
    "minimax": (
        lambda r, f: -(log_d(r).mean() + log_not_d(f).mean()),
        lambda r, f: log_not_d(f).mean(),
    ),
    "non_saturating": (
        lambda r, f: -(log_d(r).mean() + log_not_d(f).mean()),
        lambda r, f: -log_d(f).mean(),
    ),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "hinge": (
        lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
        lambda r, f: -f.mean(),
    ),
    "margin": (lambda r, f: (-r).mean() + (1 - (-f)).clamp(min=0).mean(), lambda r, f: (-f).mean()),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic_pairing": (
        lambda r, f: (1 + (f - r).exp()).log().mean(),
        lambda r, f: (1 + (r - f).exp()).log().mean(),
    ),
    "relativistic_average": (
        lambda r, f: -(log_d(r - f.mean()).mean() + log_not_d(f - r.mean()).mean()),
        lambda r, f: -(log_d(f - r.mean()).mean() + log_not_d(r - f.mean()).mean()),
    ),
}
BATTERY = [(name, side) for name in LOSSES for side in ("discriminator", "generator")]
each_side = pytest.mark.parametrize(("name", "side"), BATTERY)


def built(name: str, side: str) -> Side:
    return getattr(LOSSES[name], side)


def formula(name: str, side: str) -> Side:
    return FORMULAS[name][side == "generator"]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, 7, 1, generator=rng, dtype=torch.float64) * 1.5
    return real.requires_grad_(), fake.requires_grad_()


def test_every_loss_has_a_formula_in_this_battery() -> None:
    assert FORMULAS.keys() == LOSSES.keys()


def test_hinge_with_noise_draws_a_margin_for_each_logit() -> None:
    noisy = bind("hinge", {"noise": 0.2}).discriminator
    torch.manual_seed(0)
    at_margin = torch.stack([noisy(torch.full((1,), 0.9), torch.full((1,), -0.9)) for _ in range(200)])
    assert 0.15 < float((at_margin == 0).float().mean()) < 0.35  # both margins at most 0.9: a quarter
    assert at_margin.max() <= 0.2
    assert noisy(torch.ones(50), -torch.ones(50)) == 0
    assert noisy(torch.full((50,), 0.8), torch.full((50,), -0.8)) > 0


@each_side
def test_loss_equals_its_formula(name: str, side: str, logits: tuple[Tensor, Tensor]) -> None:
    value = built(name, side)(*logits)
    assert value.shape == () and value.dtype == torch.float64
    torch.testing.assert_close(value, formula(name, side)(*logits), rtol=1e-12, atol=1e-12)


@each_side
def test_gradient_equals_that_of_the_formula(name: str, side: str, logits: tuple[Tensor, Tensor]) -> None:
    ours = torch.autograd.grad(built(name, side)(*logits), logits, allow_unused=True)
    plain = torch.autograd.grad(formula(name, side)(*logits), logits, allow_unused=True)
    for own, expected in zip(ours, plain, strict=True):
        assert (own is None) == (expected is None)
        if own is not None:
            torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-12)


@each_side
def test_gradient_passes_a_numerical_check(name: str, side: str, logits: tuple[Tensor, Tensor]) -> None:
    assert torch.autograd.gradcheck(built(name, side), logits)


@each_side
def test_patch_logits_count_as_samples(name: str, side: str) -> None:
    real, fake = torch.randn(2, 4, 1, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    flat = built(name, side)(real.flatten(), fake.flatten())
    torch.testing.assert_close(built(name, side)(real, fake), flat, rtol=1e-14, atol=0)


@each_side
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_reduced_in_float32(name: str, side: str, dtype: torch.dtype) -> None:
    real, fake = (torch.randn(2, 64, generator=torch.Generator().manual_seed(3)) * 3).to(dtype)
    value = built(name, side)(real, fake)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, built(name, side)(real.float(), fake.float()), rtol=0, atol=0)


@each_side
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite(name: str, side: str, size: float) -> None:
    real = torch.full((4,), size, requires_grad=True)
    fake = torch.full((4,), -size, requires_grad=True)
    value = built(name, side)(real, fake)
    value.backward()
    assert value.isfinite()
    assert all(x.grad is None or x.grad.isfinite().all() for x in (real, fake))


@each_side
def test_only_relativistic_generators_need_real_logits(name: str, side: str) -> None:
    loss = LOSSES[name]
    fake = torch.randn(5, requires_grad=True)
    if not loss.relativistic:
        assert loss.generator(None, fake).requires_grad
    else:
        assert not torch.equal(loss.generator(torch.ones(5), fake), loss.generator(-torch.ones(5), fake))


@each_side
def test_float32_value_keeps_its_digits_where_the_discriminator_is_confident(name: str, side: str) -> None:
    real, fake = torch.tensor([12.0, 14.0]), torch.tensor([-13.0, -15.0])
    exact = built(name, side)(real.double(), fake.double())
    torch.testing.assert_close(built(name, side)(real, fake).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("real_target", "fake_target"), [(0.9, 0.0), (0.9, 0.1), (1.0, 0.2)])
@pytest.mark.parametrize("name", ["minimax", "non_saturating", "relativistic_average"])
def test_smoothed_labels_are_soft_targets_of_the_cross_entropy(
    name: str, real_target: float, fake_target: float, logits: tuple[Tensor, Tensor]
) -> None:
    real, fake = logits
    shift = (fake.mean(), real.mean()) if LOSSES[name].relativistic else (0.0, 0.0)
    loss = bind(name, {"real_target": real_target, "fake_target": fake_target})
    expected = bce(real - shift[0], real_target) + bce(fake - shift[1], fake_target)
    torch.testing.assert_close(loss.discriminator(real, fake), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss.generator(real, fake), LOSSES[name].generator(real, fake), rtol=0, atol=0)


def test_least_squares_targets_go_to_the_side_that_takes_them(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    loss = bind("least_squares", {"a": -1.0, "b": 2.0, "c": 0.5})
    expected = ((real - 2) ** 2).mean() / 2 + ((fake + 1) ** 2).mean() / 2
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(None, fake), ((fake - 0.5) ** 2).mean() / 2)


@pytest.mark.parametrize("name", ["hinge", "wasserstein", "relativistic_pairing", "least_squares"])
def test_smoothing_a_loss_without_labels_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown key 'loss\.options\.real_target'"):
        bind(name, {"real_target": 0.9})


def test_misspelt_option_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'real_target'"):
        bind("non_saturating", {"real_traget": 0.9})
    with pytest.raises(UserError, match="did you mean 'hinge'"):
        bind("hinges", {})


def test_target_outside_of_probabilities_is_an_error() -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        bind("minimax", {"real_target": 1.2})


def test_loss_of_a_users_own_module_is_bound_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def cubic(real: Tensor | None, fake: Tensor, *, shift: float = 0.0) -> Tensor:
        return ((fake - shift) ** 3).mean()

    monkeypatch.setattr(losses, "OWN", AdversarialLoss(losses.hinge_discriminator, cubic), raising=False)
    bound = bind("sparring.core.losses:OWN", {"shift": -2})
    torch.testing.assert_close(bound.generator(None, torch.zeros(2)), torch.tensor(8.0))
    with pytest.raises(UserError, match="must be an AdversarialLoss"):
        bind("sparring.core.losses:bind", {})


def test_pairing_logits_of_different_shapes_is_an_error_and_no_broadcast() -> None:
    with pytest.raises(ValueError, match="one shape"):
        losses.relativistic_pairing_discriminator(torch.zeros(4, 1), torch.zeros(4))


def test_flipped_labels_swap_whole_samples_at_the_given_rate() -> None:
    torch.manual_seed(0)
    real, fake = torch.ones(4000, 1, 2, 2), torch.zeros(4000, 1, 2, 2)
    new_real, new_fake = flip_labels(real, fake, 0.3)
    torch.testing.assert_close(new_real + new_fake, torch.ones_like(real))
    assert torch.equal(new_real.amin((1, 2, 3)), new_real.amax((1, 2, 3)))
    assert abs(float(new_fake.mean()) - 0.3) < 0.03


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_probability_zero_and_one_are_never_and_always(probability: float) -> None:
    real, fake = torch.arange(5.0), -torch.arange(5.0) - 1
    expected = (fake, real) if probability else (real, fake)
    assert all(torch.equal(a, b) for a, b in zip(flip_labels(real, fake, probability), expected, strict=True))
