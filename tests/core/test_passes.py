"""Real and fake samples judged in as few passes as there can be: each judgement comes back to its sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparring.core.passes import BOTH, Judgement, Sides, judge, part_size, spaced

torch.set_num_threads(1)


def look(samples: Tensor, label: Tensor | None) -> Judgement:
    """A logit that tells sample and label, and the sample itself as features."""
    return samples.square().sum(1) + (0 if label is None else 1000 * label), samples


@settings(deadline=None)
@given(of=st.integers(1, 12), data=st.data(), labels=st.booleans(), joint=st.booleans())
def test_judgements_come_back_in_the_order_of_the_samples(
    of: int, data: st.DataObject, labels: bool, joint: bool
) -> None:
    probed = data.draw(st.sampled_from([(), ("real",), ("fake",), BOTH]))
    count = data.draw(st.integers(1, of)) if probed else 0
    samples = {side: torch.randn(of, 3) for side in BOTH}
    label = torch.arange(of) if labels else None
    seen, probes = judge(look, samples, label, joint=joint, probed=probed, count=count)
    for side in BOTH:
        logits, features = seen[side]
        torch.testing.assert_close(logits, look(samples[side], label)[0])
        assert features is not None and torch.equal(features, samples[side])
    expected: list[Sides] = [probed] if joint else [(side,) for side in probed if count == of]
    assert sorted(probes) == sorted(each for each in expected if each)
    for sides, probe in probes.items():
        assert torch.equal(probe.samples, torch.cat([spaced(samples[side], count) for side in sides]))
        assert probe.samples.requires_grad and probe.logits.requires_grad


@pytest.mark.parametrize("joint", [True, False])
def test_no_sample_is_looked_at_twice(joint: bool) -> None:
    passes: list[int] = []

    def watched(samples: Tensor, label: Tensor | None) -> Judgement:
        passes.append(len(samples))
        return look(samples, label)

    samples = {side: torch.randn(8, 3) for side in BOTH}
    for probed, count in (((), 0), (BOTH, 8), (BOTH, 1), (("real",), 3)):
        passes.clear()
        judge(watched, samples, None, joint=joint, probed=probed, count=count)
        assert sum(passes) == 16
        assert len(passes) == (2 if not joint or 0 < count * len(probed) < 16 else 1)


def test_the_gradient_of_the_loss_goes_through_every_logit() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    samples = {side: torch.rand(6, 3) for side in BOTH}
    seen, _ = judge(lambda x, label: (weight * x.sum(1), None), samples, None, joint=True, probed=BOTH, count=2)
    (seen["real"][0] * torch.arange(6.0)).sum().backward()
    torch.testing.assert_close(weight.grad, (samples["real"].sum(1) * torch.arange(6.0)).sum())


@settings(deadline=None)
@given(of=st.integers(1, 40), data=st.data())
def test_the_shares_of_two_halves_are_the_share_of_the_whole(of: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, of))
    half, whole = torch.arange(of), torch.arange(2 * of)
    parts = torch.cat([spaced(half, count), spaced(half, count) + of])
    assert torch.equal(parts, spaced(whole, 2 * count))
    assert len(parts.unique()) == 2 * count


def test_the_smallest_part_is_one_sample() -> None:
    assert [part_size(64, share) for share in (1e-9, 0.25, 1.0)] == [1, 16, 64]
