"""Passes of the discriminator over the two sides of a batch: what the loss and the penalties need, in as few as there can be.

A sample's logit, and its gradient by the sample, depend on that sample alone, unless a layer mixes samples as batch norm
does. So real and fake samples may pass together, one `autograd.grad` gives the gradients at both sides, and in full
precision the pass that the penalties differentiate is the one that the loss looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.compiled import eager
from sparring.core.second_order import SecondOrder

Side = Literal["real", "fake"]
Sides = tuple[Side, ...]
BOTH: Sides = ("real", "fake")
Judgement = tuple[Tensor, Tensor | None]
"""Logits (N, …), and features (N, F) where further heads want them."""
Figure = tuple[Hashable, ...]
GRADIENTS: Figure = ("gradients",)
Look = Callable[[Tensor, Tensor | None], Judgement]


@dataclass
class Probe:
    """Samples (n, …) that require gradients, their logits, and the `SecondOrder` under which those were computed."""

    samples: Tensor
    logits: Tensor
    order: SecondOrder

    def squared_gradient_norms(self, parts: Sequence[int] = ()) -> Tensor:
        """‖∇D‖² at each sample, (n,), differentiable by the parameters.

        parts: lengths of the parts of samples (n, numbers); where given, those by each part on its own, (n, parts).
        """
        # The gradient call too: under autocast the backward's own products would be rounded to half precision.
        with torch.autocast(self.samples.device.type, enabled=False):
            gradient = self.order.gradient(self.logits, self.samples)
            squares = precise(gradient).square().flatten(1)
            return torch.stack([part.sum(1) for part in squares.split(list(parts), 1)], 1) if parts else squares.sum(1)


@dataclass
class Played:
    """What a discriminator's turn has at hand for its penalties.

    discriminate: the batch's samples (N, …), or n `spaced` ones of them, (n, …) → logits (n,), (n, 1) or (n, …patches);
        labels are already bound. Where `joint` is set it takes `lots` too: samples are so many times n, in a row.
    real, fake: samples (N, …); fake is detached from the generator.
    real_logits, fake_logits: optional logits of those very tensors, in full precision and with gradients by the
        parameters, for what compares with them.
    augment: a random augmentation of samples, for the consistency penalty.
    joint: several lots may pass together.
    anchors: running means of the logits of real samples and of fakes, (2,), for the penalty that holds logits near them.
    parts: lengths of the inputs that are packed into samples (N, numbers), whose gradients `wgan_gp` and `dragan` hold one by
        one; () where a sample is one input.
    probes: passes made already, of all or of `spaced` samples of the sides that they are filed under, in a row.
    together: figures that will be asked for at both sides.
    waiting: what came with the other side's figure, until it is asked for.
    """

    discriminate: Callable[..., Tensor]
    real: Tensor
    fake: Tensor
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    joint: bool = False
    anchors: Tensor | None = None
    parts: Sequence[int] = ()
    probes: Mapping[Sides, Probe] = field(default_factory=dict)
    together: frozenset[Figure] = frozenset()
    waiting: dict[tuple[Figure, Side], Tensor] = field(default_factory=dict)

    def part(self, share: float, together: frozenset[Figure] = frozenset()) -> Played:
        """A `share` of the samples of both sides, at least one, with what is known of just these.

        together: figures that will be asked for at both sides of this part.
        """
        count = part_size(len(self.real), share)
        return Played(
            self.discriminate,
            spaced(self.real, count),
            spaced(self.fake, count),
            None if self.real_logits is None else spaced(self.real_logits, count),
            None if self.fake_logits is None else spaced(self.fake_logits, count),
            self.augment,
            self.joint,
            self.anchors,
            self.parts,
            {sides: probe for sides, probe in self.probes.items() if len(probe.samples) == count * len(sides)},
            together if self.joint else frozenset(),
        )

    def samples(self, side: Side) -> Tensor:
        """The samples of a side, (N, …)."""
        return self.real if side == "real" else self.fake

    def squared_gradient_norms(self, side: Side) -> Tensor:
        """‖∇D‖² at each sample of a side, (N,), differentiable by the parameters."""
        if (GRADIENTS, side) in self.waiting:
            return self.waiting.pop((GRADIENTS, side))
        sides = self._sides(GRADIENTS, side)
        probe = self.probes.get(sides) or self.probe(join([self.samples(each) for each in sides]), len(sides))
        return self._take(GRADIENTS, side, sides, probe.squared_gradient_norms())

    def squared_slopes(self, side: Side, sigma: float) -> Tensor:
        """((D(x + σε) − D(x)) / σ)² at each sample of a side, (N,), with ε ~ N(0, I), one draw a sample."""
        figure = ("slopes", sigma)
        if (figure, side) in self.waiting:
            return self.waiting.pop((figure, side))
        sides = self._sides(figure, side)
        with torch.autocast(self.real.device.type, enabled=False):
            still = [precise(self.samples(each).detach()) for each in sides]
            moved = [each + sigma * chance.normal_like(each) for each in still]
            logits = {"real": self.real_logits, "fake": self.fake_logits}
            given = [each for each in map(logits.get, sides) if each is not None and is_precise(each)]
            before = given if len(given) == len(sides) else []
            passed = self._pass([*moved, *([] if before else still)])
            # Patches are summed after the difference: a small difference of two large sums would lose its digits.
            difference = precise(join(passed[: len(sides)])) - precise(join(before or passed[len(sides) :]))
            slopes = difference.reshape(len(difference), -1).sum(1) / sigma
        return self._take(figure, side, sides, slopes.square())

    def probe(self, samples: Tensor, lots: int = 1) -> Probe:
        """A pass over samples, of the batch or near it, whose gradient by them may be differentiated. lots: see `discriminate`."""
        with torch.autocast(samples.device.type, enabled=False):
            samples = leaf(samples)
            with eager(), SecondOrder() as order:
                logits = self.discriminate(samples, lots) if lots > 1 else self.discriminate(samples)
        return Probe(samples, logits, order)

    def _sides(self, figure: Figure, side: Side) -> Sides:
        return BOTH if figure in self.together else (side,)

    def _pass(self, lots: Sequence[Tensor]) -> list[Tensor]:
        """The logits of each lot, in one pass where they may pass together."""
        if not self.joint or len(lots) == 1:
            return [self.discriminate(lot) for lot in lots]
        return list(self.discriminate(join(lots), len(lots)).chunk(len(lots)))

    def _take(self, figure: Figure, side: Side, sides: Sides, values: Tensor) -> Tensor:
        """The values of one side; those of the other wait."""
        self.waiting |= {(figure, each): own for each, own in zip(sides, values.chunk(len(sides)), strict=True)}
        return self.waiting.pop((figure, side))


class PlayedRow(Played):
    """One sample of each side, (1, …), as a function that torch.func differentiates sample by sample."""

    def squared_gradient_norms(self, side: Side) -> Tensor:
        return self.probe(self.samples(side)).squared_gradient_norms()

    def probe(self, samples: Tensor, lots: int = 1) -> Any:
        return ProbeRow(samples, self.discriminate)


@dataclass
class ProbeRow:
    """A place (1, …) to take a gradient at."""

    samples: Tensor
    discriminate: Callable[..., Tensor]

    def squared_gradient_norms(self, parts: Sequence[int] = ()) -> Tensor:
        """‖∇D‖², (1,), differentiable by the parameters."""
        gradient = torch.func.grad(lambda samples: self.discriminate(samples).sum())(self.samples)
        return gradient.square().flatten(1).sum(1)


def judge(
    look: Look, samples: Mapping[Side, Tensor], label: Tensor | None, *, joint: bool, probed: Sides = (), count: int = 0
) -> tuple[dict[Side, Judgement], dict[Sides, Probe]]:
    """Look at both sides, in as few passes as there can be; and the probes of those sides whose gradients will be asked for.

    look: samples (n, …) and labels (n,) → logits and features. joint: samples of both sides may pass together.
    probed, count: the gradients wanted are those of `count` spaced samples of these sides. Where passes are not joint,
        only of whole sides.
    """
    sides: Sides = tuple(samples)
    of, device = len(samples[sides[0]]), samples[sides[0]].device
    whole, part, rest = (_indices(count, of, device, which) for which in ("whole", "spaced", "others"))
    if joint:
        groups = [([(side, part) for side in probed], True)]
        groups += [([(side, rest if side in probed else whole) for side in sides], False)]
    else:
        groups = [([(side, whole)], side in probed and count == of) for side in sides]
    found: dict[Side, list[Judgement]] = {side: [] for side in sides}
    probes: dict[Sides, Probe] = {}
    for pieces, probing in groups:
        pieces = [(side, chosen) for side, chosen in pieces if len(chosen)]
        if not pieces:
            continue
        together = join([_take(samples[side], chosen) for side, chosen in pieces])
        labels = None if label is None else join([_take(label, chosen) for _, chosen in pieces])
        if probing:
            together = leaf(together)
            with eager(), SecondOrder(shared=True) as order:
                logits, features = look(together, labels)
            probes[tuple(side for side, _ in pieces)] = Probe(together, logits, order)
        else:
            logits, features = look(together, labels)
        sizes = [len(chosen) for _, chosen in pieces]
        own_features = [None] * len(sizes) if features is None else features.split(sizes)
        for (side, _), own_logits, own in zip(pieces, logits.split(sizes), own_features, strict=True):
            found[side].append((own_logits, own))
    back = _indices(count, of, device, "back")
    return {side: _joined(parts, back) for side, parts in found.items()}, probes


def join(lots: Sequence[Tensor]) -> Tensor:
    """All rows, one lot after the other."""
    return lots[0] if len(lots) == 1 else torch.cat([*lots])


def part_size(count: int, share: float) -> int:
    """How many of `count` samples a share is: at least one."""
    return max(1, round(share * count))


def spaced(values: Tensor, count: int) -> Tensor:
    """`count` of the rows of values (N, …), evenly spaced.

    And not the first: so the parts of a batch that several processes or micro-batches take are together that of the whole.
    """
    return _take(values, _indices(count, len(values), values.device, "spaced"))


def precise(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are."""
    return values if is_precise(values) else values.float()


def is_precise(values: Tensor) -> bool:
    """Whether values are in full precision."""
    return values.dtype in (torch.float32, torch.float64)


def leaf(samples: Tensor) -> Tensor:
    """The same samples in full precision, from which gradients are wanted and beyond which none go."""
    return precise(samples.detach()).requires_grad_()


def _joined(parts: Sequence[Judgement], back: Tensor) -> Judgement:
    """The judgement of a side from that of its spaced samples and that of the others."""
    if len(parts) == 1:
        return parts[0]
    (logits, features), (more_logits, more_features) = parts
    return (
        join([logits, more_logits]).index_select(0, back),
        None if features is None or more_features is None else join([features, more_features]).index_select(0, back),
    )


def _take(values: Tensor, chosen: Tensor) -> Tensor:
    return values if len(chosen) == len(values) else values.index_select(0, chosen)


@cache
def _indices(count: int, of: int, device: torch.device, which: Literal["whole", "spaced", "others", "back"]) -> Tensor:
    """Rows of a batch: all; `count` evenly spaced ones; the others; where each row is when the others follow the spaced ones."""
    chosen = [row * of // count for row in range(count)] if count else []
    others = sorted({*range(of)}.difference(chosen))
    orders = {"whole": [*range(of)], "spaced": chosen, "others": others}
    rows = torch.tensor([*chosen, *others]).argsort().tolist() if which == "back" else orders[which]
    return torch.tensor(rows, dtype=torch.int64, device=device)
