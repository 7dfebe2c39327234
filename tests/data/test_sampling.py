"""Sampling: exact after a restart and on any number of processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.data.sampling import Sampler
from sparring.errors import UserError

COUNTS, BATCHES, SEEDS = st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**40)


@given(COUNTS, BATCHES, SEEDS, st.integers(0, 30))
def test_setting_the_position_reproduces_the_continuation(count: int, batch: int, seed: int, steps: int) -> None:
    sampler = Sampler(count, batch, seed)
    for _ in range(steps):
        sampler.next()
    again = Sampler(count, batch, seed)
    again.position = sampler.position
    for _ in range(5):
        assert torch.equal(sampler.next(), again.next())


@given(COUNTS, BATCHES, SEEDS)
def test_each_epoch_visits_every_sample_once(count: int, batch: int, seed: int) -> None:
    sampler = Sampler(count, batch, seed)
    drawn = torch.cat([sampler.next() for _ in range(3 * count // batch + 1)])
    for epoch in range(3):
        assert drawn[epoch * count : (epoch + 1) * count].sort().values.tolist() == list(range(count))


@given(COUNTS, st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_ranks_partition_the_batch_of_a_single_process(count: int, share: int, world: int, seed: int) -> None:
    alone = Sampler(count, share * world, seed)
    ranks = [Sampler(count, share * world, seed, rank=rank, world=world) for rank in range(world)]
    for _ in range(4):
        assert torch.equal(alone.next(), torch.cat([rank.next() for rank in ranks]))
        assert {rank.position for rank in ranks} == {alone.position}


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, other = Sampler(100, 100, 0), Sampler(100, 100, 1)
    orders = [first.next(), first.next(), other.next()]
    assert all(not torch.equal(orders[a], orders[b]) for a, b in [(0, 1), (0, 2), (1, 2)])
    assert first.epoch == 2.0


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size=63"):
        Sampler(10, 64, 0, world=3)


def test_no_samples_are_refused() -> None:
    with pytest.raises(UserError, match="no samples"):
        Sampler(0, 4, 0)
