"""Penalties against formulas written out sample by sample, and their second derivatives against numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparring.core import penalties
from sparring.core.passes import Played
from sparring.core.penalties import PENALTIES, bind_penalties, gradients_asked, play_penalties
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


def counted(discriminator: nn.Module, turn: Played) -> list[int]:
    """How many samples each pass of the turn looks at, from now on; passes may be joint."""
    sizes: list[int] = []

    def discriminate(samples: Tensor, lots: int = 1) -> Tensor:
        sizes.append(len(samples))
        return discriminator(samples)

    turn.discriminate, turn.joint = discriminate, True
    return sizes


def weight_gradients(value: Tensor, discriminator: nn.Module) -> Tensor:
    """By all parameters, flat; nothing is zero."""
    found = torch.autograd.grad(value, list(discriminator.parameters()), allow_unused=True)
    pairs = zip(discriminator.parameters(), found, strict=True)
    return torch.cat([torch.zeros_like(each).flatten() if own is None else own.flatten() for each, own in pairs])


@each_network
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["", "_finite_difference"])
def test_both_sides_take_one_pass_and_come_out_as_from_two(network: type[nn.Module], kind: str, share: float) -> None:
    discriminator, turn = played(network)
    options = {"weight": 3.0, "share": share}
    lazy = bind_penalties({f"r1{kind}": options, f"r2{kind}": options})
    apart = []
    for penalty in lazy:
        torch.manual_seed(6)
        if penalty is lazy[1]:
            torch.randn_like(turn.real[: round(share * 4)])  # what R1 drew
        apart.append(penalty.term(turn.part(share)))
    sizes = counted(discriminator, turn)
    torch.manual_seed(6)
    together = [*play_penalties(lazy, turn, 0).values()]
    assert sizes == [round(share * 4) * (4 if kind else 2)]
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-14)
    ours, theirs = (weight_gradients(sum(values), discriminator) for values in (together, apart))  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "spec",
    [
        {"r1": {"weight": 1.0}},
        {"r1": {"weight": 1.0}, "r2": {"weight": 1.0, "share": 0.5}},
        {"r1": {"weight": 1.0}, "r2_finite_difference": {"weight": 1.0}},
        {"r1": {"weight": 1.0}, "r2": {"weight": 1.0, "every": 2}},
        {"r1_finite_difference": {"weight": 1.0}, "r2_finite_difference": {"weight": 1.0, "sigma": 0.1}},
    ],
)
def test_what_is_not_asked_for_at_both_sides_is_not_computed(spec: dict[str, Any]) -> None:
    discriminator, turn = played(Scalar)
    sizes = counted(discriminator, turn)
    lazy = bind_penalties(spec)
    play_penalties(lazy, turn, 1)
    expected = {
        "r1": 4,
        "r2": round(4 * spec.get("r2", {}).get("share", 1)),
        "r1_finite_difference": 8,
        "r2_finite_difference": 8,
    }
    assert sizes == [expected[penalty.name] for penalty in lazy if penalty.due(1)]


def test_both_sides_pass_apart_where_a_joint_pass_would_mix_them() -> None:
    discriminator, turn = played(Scalar)
    sizes = counted(discriminator, turn)
    turn.joint = False
    play_penalties(bind_penalties({"r1": {"weight": 1.0}, "r2": {"weight": 1.0}}), turn, 0)
    assert sizes == [4, 4]


@pytest.mark.parametrize("joint", [False, True])
def test_a_pass_made_already_is_not_made_again_and_changes_nothing(joint: bool) -> None:
    discriminator, turn = played(Patches)
    lazy = bind_penalties({"r1": {"weight": 1.0}, "r2": {"weight": 1.0}})
    expected = play_penalties(lazy, turn, 0)
    sizes = counted(discriminator, turn)
    turn.joint = joint
    lots = [turn.real, turn.fake]
    if joint:
        turn.probes = {("real", "fake"): turn.probe(torch.cat(lots), 2)}
    else:
        turn.probes = {("real",): turn.probe(turn.real), ("fake",): turn.probe(turn.fake)}
    sizes.clear()
    values = play_penalties(lazy, turn, 0)
    assert not sizes
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-14)


def test_a_pass_over_the_whole_batch_does_not_serve_a_part_of_it() -> None:
    discriminator, turn = played(Scalar)
    turn.probes = {("real",): turn.probe(turn.real)}
    (lazy,) = bind_penalties({"r1": {"weight": 1.0, "share": 0.5}})
    expected = penalties.r1(Played(discriminator, turn.real[::2], turn.fake[::2]))
    torch.testing.assert_close(play_penalties([lazy], turn, 0)["r1"], expected, rtol=1e-12, atol=0)


def test_finite_differences_use_given_logits() -> None:
    discriminator, turn = played(Patches)
    torch.manual_seed(1)
    expected = penalties.r1_finite_difference(turn)
    turn.real_logits = discriminator(turn.real)
    sizes = counted(discriminator, turn)
    torch.manual_seed(1)
    value = penalties.r1_finite_difference(turn)
    assert sizes == [4]
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


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
    lazy = bind_penalties({"r1": {"weight": 5.0, "every": 4}})
    terms = [play_penalties(lazy, turn, step) for step in range(9)]
    assert [step for step, term in enumerate(terms) if term] == [0, 4, 8]
    torch.testing.assert_close(terms[4]["r1"], 5.0 * 4 * penalties.r1(turn))


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_a_share_of_the_batch_costs_that_part_and_is_the_penalty_of_its_samples(name: str) -> None:
    discriminator, turn = played(Scalar)
    half = len(turn.real) // 2
    expected = PENALTIES[name](Played(discriminator, turn.real[::2], turn.fake[::2]))
    sizes = counted(discriminator, turn)
    values = play_penalties(bind_penalties({name: {"weight": 5.0, "share": 0.5}}), turn, 0)
    torch.testing.assert_close(values[name], 5.0 * expected)
    assert sizes == [half]


def test_the_smallest_share_is_one_sample() -> None:
    discriminator, turn = played(Scalar)
    values = play_penalties(bind_penalties({"r1": {"weight": 1.0, "share": 1e-6}}), turn, 0)
    torch.testing.assert_close(values["r1"], penalties.r1(Played(discriminator, turn.real[:1], turn.fake[:1])))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"r1": {"weight": 1.0}, "r2": {"weight": 1.0}}, (("real", "fake"), 1.0)),
        ({"r1": {"weight": 1.0}, "r2": {"weight": 0.0}}, (("real",), 1.0)),
        ({"r1": {"weight": 1.0, "share": 0.5}, "r2": {"weight": 1.0, "share": 0.25}}, (("real",), 0.5)),
        ({"r1": {"weight": 1.0, "every": 2}, "r2": {"weight": 1.0}}, (("fake",), 1.0)),
        ({"wgan_gp": {"weight": 1.0}, "r1_finite_difference": {"weight": 1.0}}, ((), 0.0)),
    ],
)
def test_the_gradients_to_come_are_known_beforehand(spec: dict[str, Any], expected: tuple[Any, float]) -> None:
    assert gradients_asked(bind_penalties(spec), 1) == expected


def test_penalties_are_bound_with_their_options_in_order() -> None:
    discriminator, turn = played(Scalar)
    first, second = bind_penalties(
        {"wgan_gp": {"weight": 10, "target": 3.0}, "sparring.core.penalties:r2": {"weight": 1}}
    )
    assert (first.name, first.weight, first.every) == ("wgan_gp", 10.0, 1)
    nn.init.zeros_(discriminator[0].weight)  # type: ignore[index]
    torch.testing.assert_close(first.term(turn), torch.tensor(90.0, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(second.term(turn), penalties.r2(turn))


@pytest.mark.parametrize(("over", "steps"), [(8, 100), (0, 8)])
def test_a_weight_falls_along_half_a_cosine_and_stays(over: int, steps: int) -> None:
    _, turn = played(Scalar)
    lazy = bind_penalties({"r1": {"weight": 1.0, "final": 0.1, "over": over}}, steps=steps)
    at = {step: (play_penalties(lazy, turn, step)["r1"] / penalties.r1(turn)).detach() for step in (0, 2, 4, 8, 50)}
    quarter = 0.55 + 0.45 * math.cos(math.pi / 4)
    assert {step: float(value) for step, value in at.items()} == pytest.approx(
        {0: 1.0, 2: quarter, 4: 0.55, 8: 0.1, 50: 0.1}
    )


def test_a_weight_that_begins_at_zero_is_played_once_it_is_above() -> None:
    _, turn = played(Scalar)
    lazy = bind_penalties({"r1": {"weight": 0.0, "final": 1.0, "over": 4}})
    assert [bool(play_penalties(lazy, turn, step)) for step in (0, 1, 4)] == [False, True, True]


def test_penalty_of_weight_zero_is_off() -> None:
    _, turn = played(Scalar)
    (lazy,) = bind_penalties({"r1": {"weight": 0}})
    assert not lazy.due(0)
    assert play_penalties([lazy], turn, 0) == {}


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
        ({"r1": {"weight": 1, "final": -1}}, r"r1\.final: .* at least 0"),
        ({"r1": {"weight": 1, "final": 0.1}}, r"give loss\.penalties\.r1\.over"),
        ({"r1": {"weight": 1, "final": 0.1, "over": -2}}, "at least 1 step, or 0"),
        ({"r1": 5}, "give a mapping"),
        ({"r1_finite_difference": {"weight": 1, "sigma": 0}}, "above 0"),
    ],
)
def test_mistakes_in_the_recipe_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bind_penalties(spec)
