"""Penalties of a discriminator's turn: on its gradient by its input, and on its inconsistency under augmentation.

A gradient penalty holds ∇ₓD, the gradient of the logits by the *samples*, and is minimised by the *parameters*: the
backward pass is itself differentiated. That double backward (`create_graph=True` here, the trainer's `backward()`
after) is not a mistake; it is the point, and the reason why such a turn costs several times a plain one. It runs in
float32 with autocast off, for second derivatives do not survive half precision. The finite-difference forms need no
double backward, at the price of noise.

∇ₓD of one sample is read off the gradient of the logits' sum over the batch and over patches, which is right as long
as the discriminator treats samples one by one: layers that mix them (batch norm in train mode) blur it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparring.core import chance, processes
from sparring.core.losses import keywords, refuse_unknown
from sparring.core.passes import BOTH, GRADIENTS, Figure, Played, Side, Sides, precise
from sparring.core.schedules import anneal_cosine, length
from sparring.errors import UserError
from sparring.options import choose, resolve


def r1(played: Played) -> Tensor:
    """R1 (Mescheder et al. 2018, eq. 9, without γ): ½E‖∇D(x)‖² at real samples."""
    return 0.5 * played.squared_gradient_norms("real").mean()


def r2(played: Played) -> Tensor:
    """R2 (Mescheder et al. 2018, eq. 10, without γ): ½E‖∇D(x)‖² at generated samples."""
    return 0.5 * played.squared_gradient_norms("fake").mean()


def r1_finite_difference(played: Played, *, sigma: float = 0.01) -> Tensor:
    """R1 of first order: ½E[((D(x + σε) − D(x)) / σ)²] with ε ~ N(0, I), one draw a sample.

    As σ → 0 this is an unbiased estimate of `r1`, for E[(ε·∇D)²] = ‖∇D‖². The idea is the approximated R1 of Lin et
    al. 2025 (arXiv 2501.08316), here divided by σ² so that weights mean the same as for `r1`.
    sigma: in the samples' units.
    """
    return 0.5 * played.squared_slopes("real", sigma).mean()


def r2_finite_difference(played: Played, *, sigma: float = 0.01) -> Tensor:
    """`r1_finite_difference` at generated samples: an estimate of `r2`."""
    return 0.5 * played.squared_slopes("fake", sigma).mean()


def wgan_gp(played: Played, *, target: float = 1.0, one_sided: bool = False) -> Tensor:
    """WGAN-GP (Gulrajani et al. 2017, eq. 3): E[(‖∇D(x̂)‖ − target)²], x̂ uniform on the line from a real to a fake.

    one_sided: penalise only norms above the target (their section 4; Petzka et al. 2018).
    """
    if played.real.shape != played.fake.shape:
        shapes = f"real {tuple(played.real.shape)}, fake {tuple(played.fake.shape)}"
        raise ValueError(f"wgan_gp interpolates between pairs, so both sides must have one shape: {shapes}")
    real, fake = precise(played.real), precise(played.fake)
    share = chance.uniform(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    excess = _gradient_norms(played, torch.lerp(fake, real, share)) - target
    return (torch.relu(excess) if one_sided else excess).square().mean()


def dragan(played: Played, *, scale: float = 0.5, target: float = 1.0) -> Tensor:
    """DRAGAN (Kodali et al. 2017, algorithm 1): E[(‖∇D(x + δ)‖ − target)²] around real samples.

    δ = scale · std(batch) · U(0, 1), drawn for every value, as in the authors' experiments.
    """
    real = precise(played.real)
    noise = scale * processes.deviation(real) * chance.uniform_like(real)
    return (_gradient_norms(played, real + noise) - target).square().mean()


def drift(played: Played) -> Tensor:
    """What keeps a critic from drifting away from zero (Karras et al. 2018, appendix A.1): E[D(x)²] at real samples.

    The Wasserstein loss sees differences of logits only. Patches count as samples of their own. First order only.
    """
    logits = played.discriminate(played.real) if played.real_logits is None else played.real_logits
    return precise(logits).square().mean()


def consistency(played: Played, *, real: float = 1.0, fake: float = 1.0) -> Tensor:
    """Balanced consistency, bCR (Zhao et al. 2020, algorithm 1): E‖D(x) − D(T(x))‖² at real and at fake samples.

    real, fake: weights of the two sides. Patches count as samples of their own. First order only.
    Raises UserError where the recipe names no augmentation T.
    """
    if played.augment is None:
        raise UserError("loss.penalties.consistency compares samples with augmented ones: give an augmentation")
    total = torch.zeros((), device=played.real.device)
    for weight, samples, logits in (
        (real, played.real, played.real_logits),
        (fake, played.fake, played.fake_logits),
    ):
        if weight:
            plain = played.discriminate(samples) if logits is None else logits
            moved = precise(plain) - precise(played.discriminate(played.augment(samples)))
            total = total + weight * moved.square().mean()
    return total


def lecam(played: Played, *, one_sided: bool = True) -> Tensor:
    """LeCam (Tseng et al. 2021, eq. 5): E[(D(x) − α_F)²] + E[(D(G(z)) − α_R)²], α: running means of the other side's logits.

    Against too few samples: logits of the two sides are held together. First order only.
    one_sided: only where a logit is on its own side of the other's mean, as in the authors' code.
    """
    real = precise(played.discriminate(played.real) if played.real_logits is None else played.real_logits)
    fake = precise(played.discriminate(played.fake) if played.fake_logits is None else played.fake_logits)
    anchors = torch.stack([real.detach().mean(), fake.detach().mean()]) if played.anchors is None else played.anchors
    real_anchor, fake_anchor = anchors.to(real.dtype)
    above, below = real - fake_anchor, real_anchor - fake
    if one_sided:
        above, below = torch.relu(above), torch.relu(below)
    return above.square().mean() + below.square().mean()


PENALTIES: dict[str, Callable[..., Tensor]] = {
    "r1": r1,
    "r2": r2,
    "r1_finite_difference": r1_finite_difference,
    "r2_finite_difference": r2_finite_difference,
    "wgan_gp": wgan_gp,
    "dragan": dragan,
    "drift": drift,
    "consistency": consistency,
    "lecam": lecam,
}


ASKS: dict[Callable[..., Tensor], tuple[Side, str]] = {
    r1: ("real", "gradients"),
    r2: ("fake", "gradients"),
    r1_finite_difference: ("real", "slopes"),
    r2_finite_difference: ("fake", "slopes"),
}
"""Which figure of `Played` a penalty takes, and at which side: asked for at both, it comes from one pass."""


ROW_BY_ROW = (r1, r2, r1_finite_difference, r2_finite_difference, wgan_gp, drift)
"""Penalties whose value at a sample depends on that sample, and on the one it is paired with, alone."""


@dataclass(frozen=True)
class LazyPenalty:
    """A penalty, its weight λ, and the interval of steps at which it is played.

    Played every k-th step it is weighted k times, so that its average pull stays (Karras et al. 2020, section 3.1).
    final, over: the weight moves along half a cosine to `final`, reached after `over` steps, and stays there; None: it stays
    as it is.
    share: the part of each batch that it is played on, evenly spaced samples, at least one. The mean over fewer samples has
    the same expectation and a larger variance, and costs as much less (Karras et al. 2020, section 3.2, halve the batch
    of the path length so). Unlike with an interval, no step goes without the penalty.
    """

    name: str
    function: partial[Tensor]
    weight: float
    every: int = 1
    share: float = 1.0
    final: float | None = None
    over: int = 0

    def weight_at(self, step: int) -> float:
        """λ at a step."""
        return self.weight if self.final is None else anneal_cosine(self.weight, self.final, step, self.over)

    def due(self, step: int) -> bool:
        """Whether it is its turn, and its weight is not 0."""
        return step % self.every == 0 and self.weight_at(step) > 0

    def term(self, played: Played, step: int = 0) -> Tensor:
        """The weighted penalty at a step, a scalar. played: the part of the batch that is this penalty's."""
        return self.weight_at(step) * self.every * self.function(played)

    @property
    def asks(self) -> tuple[Side, Figure] | None:
        """Which figure of `Played` it takes, and at which side; None where it looks for itself."""
        if self.function.func not in ASKS:
            return None
        side, figure = ASKS[self.function.func]
        return side, (figure, *self.function.keywords.values())


def play_penalties(penalties: Sequence[LazyPenalty], played: Played, step: int) -> dict[str, Tensor]:
    """The weighted penalties that are due at a step, by name, each on its share of the batch.

    Penalties that ask for the same figure at the two sides of the same share get it from one pass.
    """
    due = [penalty for penalty in penalties if penalty.due(step)]
    parts = {share: played.part(share, together(due, share)) for share in {penalty.share for penalty in due}}
    return {penalty.name: penalty.term(parts[penalty.share], step) for penalty in due}


def together(penalties: Sequence[LazyPenalty], share: float) -> frozenset[Figure]:
    """The figures that penalties on this share ask for at both sides."""
    asked = {penalty.asks for penalty in penalties if penalty.share == share and penalty.asks}
    return frozenset(figure for side, figure in asked if side == "real" and ("fake", figure) in asked)


def gradients_asked(penalties: Sequence[LazyPenalty], step: int) -> tuple[Sides, float]:
    """Of which sides, and on what share of the batch, the penalties due at a step ask for gradients; () and 0 for none.

    Where shares differ, the largest, for it costs most to compute anew.
    """
    asked = [
        (each.share, each.asks[0]) for each in penalties if each.due(step) and each.asks and each.asks[1] == GRADIENTS
    ]
    share = max((share for share, _ in asked), default=0.0)
    return tuple(side for side in BOTH if (share, side) in asked), share


def bind_penalties(
    spec: Mapping[str, Mapping[str, Any]], *, steps: int | None = None, where: str = "loss.penalties"
) -> list[LazyPenalty]:
    """The penalties that a recipe asks for, e.g. `{"r1": {"weight": 5.0, "every": 4}}`, in its order.

    spec: name (or `module:name`) → `weight`, `every` and `share` (1 where not given), `final` and `over`, and the options of
    the penalty's function. steps: the length of the run, over which weights move that have no `over` of their own.
    Raises UserError for an unknown penalty or option (naming the nearest), a missing weight or a wrong value.
    """
    bound = [_bind(name, options, f"{where}.{name}") for name, options in spec.items()]
    return [
        each if each.final is None else replace(each, over=length(each.over, steps, where=f"{where}.{each.name}"))
        for each in bound
    ]


def resolve_penalties(
    spec: Mapping[str, Mapping[str, Any]], *, where: str = "loss.penalties"
) -> dict[str, dict[str, Any]]:
    """The same mapping with every default filled in. Raises UserError as `bind_penalties` does."""
    bound = [_bind(name, options, f"{where}.{name}") for name, options in spec.items()]
    return {
        each.name: {**{key: getattr(each, key) for key in keywords(_pace)}, **each.function.keywords} for each in bound
    }


def _bind(name: str, options: Mapping[str, Any], where: str) -> LazyPenalty:
    function = choose(PENALTIES, name, what="penalty")
    if not isinstance(options, Mapping):
        raise UserError(f"{where}: give a mapping, e.g. {{weight: 10}}, not {options!r}")
    shared = keywords(_pace)
    refuse_unknown(options, {*shared, *keywords(function)}, where=where)
    pace = resolve(_pace, {key: value for key, value in options.items() if key in shared}, where=where)
    for key in ("weight", "final"):
        if pace[key] is not None and pace[key] < 0:
            raise UserError(f"{where}.{key}: a penalty's weight is at least 0, not {pace[key]!r}")
    if pace["every"] < 1:
        raise UserError(f"{where}.every: an interval is at least 1 step, not {pace['every']!r}")
    if not 0 < pace["share"] <= 1:
        raise UserError(f"{where}.share: a share of the batch is above 0 and at most 1, not {pace['share']!r}")
    own = resolve(function, {key: value for key, value in options.items() if key not in shared}, where=where)
    if own.get("sigma", 1.0) <= 0:
        raise UserError(f"{where}.sigma: the step of a finite difference is above 0, not {own['sigma']!r}")
    return LazyPenalty(name, partial(function, **own), **pace)


def _pace(*, weight: float, every: int = 1, share: float = 1.0, final: float | None = None, over: int = 0) -> None:
    """The options that all penalties share."""


def _gradient_norms(played: Played, samples: Tensor) -> Tensor:
    """‖∇D‖ at each of other samples than the batch's, (N,); of samples that are packed inputs, by each input, (N, inputs)."""
    # The root's slope at 0 is infinite, and infinity times the zero gradient inside would be NaN.
    return (played.probe(samples).squared_gradient_norms(played.parts) + 1e-12).sqrt()
