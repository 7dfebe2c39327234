"""The replay buffer: it fills, then exchanges half of what comes, and a copy of its state goes on as it would have."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.core.replay import Replay


def numbered(start: int, count: int) -> Tensor:
    """Samples (count, 1, 2, 2) that are all their own number."""
    return torch.arange(start, start + count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def test_what_comes_first_is_kept_and_shown_as_it_is() -> None:
    replay = Replay(5, (1, 2, 2))
    assert torch.equal(replay(numbered(1, 3)), numbered(1, 3))
    assert torch.equal(replay(numbered(4, 2)), numbered(4, 2))
    assert torch.equal(replay.samples, numbered(1, 5))
    assert replay.count.item() == 5


def test_a_full_buffer_exchanges_half_of_what_comes_and_loses_nothing() -> None:
    torch.manual_seed(0)
    replay = Replay(50, (1, 2, 2))
    replay(numbered(0, 50))
    shown = torch.cat([replay(numbered(50 + number, 1)) for number in range(2000)])[:, 0, 0, 0]
    fresh = shown == torch.arange(50, 2050)
    assert 0.45 < fresh.float().mean() < 0.55
    assert (shown[~fresh] < torch.arange(50, 2050)[~fresh]).all()
    # Each sample is either shown or still kept, and none is both.
    kept = replay.samples[:, 0, 0, 0]
    assert sorted([*shown.tolist(), *kept.tolist()]) == list(range(2050))
    assert replay.count.item() == 50


def test_samples_of_one_batch_may_be_exchanged_for_each_other() -> None:
    torch.manual_seed(1)
    replay = Replay(1, (1, 2, 2))
    shown = replay(numbered(0, 64))[:, 0, 0, 0]
    # The first is kept and shown; from then on each sample is in one place at a time.
    assert shown[0] == 0
    assert sorted([*shown[1:].tolist(), replay.samples[0, 0, 0, 0].item()]) == list(range(64))


def test_a_buffer_of_none_shows_everything_without_gradients() -> None:
    samples = numbered(0, 3).requires_grad_()
    shown = Replay(0, (1, 2, 2))(samples)
    assert torch.equal(shown, samples)
    assert not shown.requires_grad


def test_a_restored_buffer_shows_what_the_uninterrupted_one_does() -> None:
    torch.manual_seed(2)
    first = Replay(4, (1, 2, 2))
    first(numbered(0, 3))
    second = Replay(4, (1, 2, 2))
    second.load_state_dict(first.state_dict())
    state = torch.get_rng_state()
    ours = [first(numbered(number, 2)) for number in range(3, 30, 2)]
    torch.set_rng_state(state)
    theirs = [second(numbered(number, 2)) for number in range(3, 30, 2)]
    assert torch.equal(torch.cat(ours), torch.cat(theirs))
    assert torch.equal(first.samples, second.samples)


def test_half_precision_is_kept_in_full_and_shown_as_it_came() -> None:
    replay = Replay(2, (1, 2, 2))
    assert replay(numbered(0, 4).bfloat16()).dtype == torch.bfloat16
    assert replay.samples.dtype == torch.float32
