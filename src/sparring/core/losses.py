"""Adversarial losses: (real logits, fake logits) → what a side minimises, one small function each.

Logits have any shape (N, …): the patches of a patch discriminator count as samples of their own. Every function returns
a scalar in the logits' dtype, or in float32 where they are of half precision. Keyword-only arguments are the options
that a recipe may set under `loss.options`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sparring.core import chance, processes
from sparring.errors import UserError, nearest
from sparring.options import choose, resolve


@dataclass(frozen=True)
class AdversarialLoss:
    """Both sides of a game. Each is called as `side(real_logits, fake_logits)` and returns a scalar to minimise.

    relativistic: the generator's side needs the real logits too; other generators may be given None for them.
    boundary: above it a logit means real; None where only differences mean something.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    relativistic: bool = False
    boundary: float | None = 0.0


def logistic_discriminator(real: Tensor, fake: Tensor, *, real_target: float = 1.0, fake_target: float = 0.0) -> Tensor:
    """Cross entropy (Goodfellow et al. 2014, eq. 1, negated): −E[log σ(D(x))] − E[log(1 − σ(D(G(z))))].

    real_target, fake_target: the probabilities to predict, in [0, 1]; real_target=0.9 is one-sided label smoothing
    (Salimans et al. 2016, section 3.4).
    """
    return _cross_entropy(real, real_target) + _cross_entropy(fake, fake_target)


def minimax_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """The game's own value (Goodfellow et al. 2014, eq. 1): E[log(1 − σ(D(G(z))))]. Its gradient fades as D wins."""
    return -softplus(_precise(fake)).mean()


def non_saturating_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """−E[log σ(D(G(z)))] (Goodfellow et al. 2014, section 3): the same fixed point, a strong gradient where D wins."""
    return softplus(-_precise(fake)).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor, *, a: float = 0.0, b: float = 1.0) -> Tensor:
    """LSGAN (Mao et al. 2017, eqs. 2 and 9): ½E[(D(x) − b)²] + ½E[(D(G(z)) − a)²]."""
    return 0.5 * (_precise(real) - b).square().mean() + 0.5 * (_precise(fake) - a).square().mean()


def least_squares_generator(real: Tensor | None, fake: Tensor, *, c: float = 1.0) -> Tensor:
    """LSGAN (Mao et al. 2017, eqs. 2 and 9): ½E[(D(G(z)) − c)²]."""
    return 0.5 * (_precise(fake) - c).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor, *, noise: float = 0.0) -> Tensor:
    """Hinge (Lim & Ye 2017; Miyato et al. 2018, eq. 16): E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))].

    noise: the margin of each logit is drawn from U(1 − noise, 1), as FastGAN has it (Liu et al. 2021; 0.2 there).
    """
    real, fake = _precise(real), _precise(fake)
    if noise:
        above, below = (1 - noise * chance.uniform_like(logits) for logits in (real, fake))
        return torch.relu(above - real).mean() + torch.relu(below + fake).mean()
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()


def margin_discriminator(real: Tensor, fake: Tensor, *, margin: float = 1.0) -> Tensor:
    """EBGAN (Zhao et al. 2017, eq. 1), logits being negated energies: E[−D(x)] + E[max(0, margin + D(G(z)))]."""
    return torch.relu(margin + _precise(fake)).mean() - _precise(real).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """WGAN critic (Arjovsky et al. 2017, eq. 3, negated): E[D(G(z))] − E[D(x)]. The critic must be kept Lipschitz."""
    return _precise(fake).mean() - _precise(real).mean()


def negated_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """−E[D(G(z))], the generator of WGAN (Arjovsky et al. 2017), of the hinge loss (Miyato et al. 2018, eq. 17) and of
    EBGAN (Zhao et al. 2017, eq. 2).
    """
    return -_precise(fake).mean()


def relativistic_pairing_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """RpGAN (Jolicoeur-Martineau 2018; R3GAN, Huang et al. 2024): E[softplus(−(D(x) − D(G(z))))]."""
    return softplus(-_paired_difference(real, fake)).mean()


def relativistic_pairing_generator(real: Tensor, fake: Tensor) -> Tensor:
    """RpGAN with the sides exchanged: E[softplus(−(D(G(z)) − D(x)))]."""
    return softplus(_paired_difference(real, fake)).mean()


def relativistic_average_discriminator(
    real: Tensor, fake: Tensor, *, real_target: float = 1.0, fake_target: float = 0.0
) -> Tensor:
    """RaGAN, standard form (Jolicoeur-Martineau 2018): cross entropy of D(x) − E[D(G(z))] as real and of
    D(G(z)) − E[D(x)] as fake, added.

    The expectations are means over the whole batch, also where several processes hold a share of it each.
    real_target, fake_target: as in `logistic_discriminator`.
    """
    real, fake = _precise(real), _precise(fake)
    real_mean, fake_mean = processes.mean(torch.stack([real.mean(), fake.mean()]))
    return _cross_entropy(real - fake_mean, real_target) + _cross_entropy(fake - real_mean, fake_target)


def relativistic_average_generator(real: Tensor, fake: Tensor) -> Tensor:
    """RaGAN with the sides exchanged (Jolicoeur-Martineau 2018): the average fake must look the more real."""
    return relativistic_average_discriminator(fake, real)


LOSSES: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(logistic_discriminator, minimax_generator),
    "non_saturating": AdversarialLoss(logistic_discriminator, non_saturating_generator),
    "least_squares": AdversarialLoss(least_squares_discriminator, least_squares_generator, boundary=0.5),
    "hinge": AdversarialLoss(hinge_discriminator, negated_generator),
    "margin": AdversarialLoss(margin_discriminator, negated_generator, boundary=None),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, negated_generator, boundary=None),
    "relativistic_pairing": AdversarialLoss(
        relativistic_pairing_discriminator, relativistic_pairing_generator, relativistic=True, boundary=None
    ),
    "relativistic_average": AdversarialLoss(
        relativistic_average_discriminator, relativistic_average_generator, relativistic=True, boundary=None
    ),
}


def bind(name: str, options: Mapping[str, Any], *, where: str = "loss.options") -> AdversarialLoss:
    """The loss `name` (or `module:NAME` of an AdversarialLoss) with `options` applied to the sides that take them.

    where: the recipe key of the options, for messages.
    Raises UserError for an unknown loss, an option that neither side takes, or a value of the wrong type.
    """
    loss = choose(LOSSES, name, what="loss")
    if not isinstance(loss, AdversarialLoss):
        raise UserError(f"loss {name!r} is a {type(loss).__name__}; it must be an AdversarialLoss")
    refuse_unknown(options, {*keywords(loss.discriminator), *keywords(loss.generator)}, where=where)

    def applied(side: Callable[..., Tensor]) -> partial[Tensor]:
        own = {key: value for key, value in options.items() if key in keywords(side)}
        bound = resolve(side, own, where=where)
        for target in bound.keys() & {"real_target", "fake_target"}:
            if not 0 <= bound[target] <= 1:
                raise UserError(f"{where}.{target}: a probability lies between 0 and 1, not {bound[target]!r}")
        return partial(side, **bound)

    sides = applied(loss.discriminator), applied(loss.generator)
    aims = sides[0].keywords
    # Least squares: in the middle between the two aims, wherever a recipe puts them.
    boundary = (aims["a"] + aims["b"]) / 2 if {"a", "b"} <= aims.keys() else loss.boundary
    return AdversarialLoss(*sides, loss.relativistic, boundary)


def resolve_loss(name: str, options: Mapping[str, Any], *, where: str = "loss.options") -> dict[str, Any]:
    """The options of a loss with the defaults of both sides filled in. Raises UserError as `bind` does."""
    bound = bind(name, options, where=where)
    values: dict[str, Any] = {}
    for side in (bound.discriminator, bound.generator):
        values |= side.keywords  # type: ignore[attr-defined]
    return values


def flip_labels(real: Tensor, fake: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Label noise: exchange real and fake logits at random samples, each with `probability`. Works with every loss.

    real, fake: logits of the same shape (N, …); all patches of a sample go together.
    """
    if real.shape != fake.shape:
        raise ValueError(f"flipped labels need as many real as fake logits: {tuple(real.shape)}, {tuple(fake.shape)}")
    flipped = chance.uniform(len(real), *[1] * (real.ndim - 1), device=real.device) < probability
    return torch.where(flipped, fake, real), torch.where(flipped, real, fake)


def keywords(function: Callable[..., Any]) -> list[str]:
    """The names of the keyword-only arguments of `function`, which are its options."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def refuse_unknown(options: Mapping[str, Any], known: Iterable[str], *, where: str) -> None:
    """Raise UserError for the first key of `options` that is not `known`, naming the nearest that is."""
    known = sorted(known)
    for key in options:
        if key not in known:
            hint = nearest(key, known) or (f"; known are {', '.join(known)}" if known else "; it takes no options")
            raise UserError(f"unknown key '{where}.{key}'{hint}")


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    # Two softplus terms rather than softplus(x) − t·x: that difference cancels where D is confident.
    logits = _precise(logits)
    return target * softplus(-logits).mean() + (1 - target) * softplus(logits).mean()


def _paired_difference(real: Tensor, fake: Tensor) -> Tensor:
    """D(x) − D(G(z)), pair by pair."""
    if real.shape != fake.shape:
        # (N, 1) against (N,) would broadcast to all N² pairs and train on something else without a word.
        raise ValueError(f"paired logits must have one shape: real {tuple(real.shape)}, fake {tuple(fake.shape)}")
    return _precise(real) - _precise(fake)


def _precise(logits: Tensor) -> Tensor:
    """Half-precision logits as float32: their differences and means do not survive eight bits of mantissa."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
