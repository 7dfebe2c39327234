"""The order of samples in shards: each once an epoch, few shards at a time, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.data.order import ShardOrder, choose_from_shards
from sparring.data.sampling import Sampler

torch.set_num_threads(1)

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any)
BATCHES, LANES, OPEN, SEEDS = st.integers(1, 14), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**40)


@settings(max_examples=200)
@given(COUNTS, BATCHES, SEEDS, LANES, OPEN)
def test_each_epoch_visits_every_sample_once(counts: list[int], batch: int, seed: int, lanes: int, open: int) -> None:
    order, total = ShardOrder(counts, batch, seed, lanes=lanes, open=open), sum(counts)
    for epoch in range(4):
        drawn = order.indices(epoch * total, (epoch + 1) * total)
        assert drawn.sort().values.tolist() == list(range(total))


@given(COUNTS, BATCHES, SEEDS, LANES, OPEN, st.integers(0, 200), st.integers(0, 40))
def test_what_is_drawn_depends_on_the_position_alone(
    counts: list[int], batch: int, seed: int, lanes: int, open: int, start: int, length: int
) -> None:
    fresh, used = (ShardOrder(counts, batch, seed, lanes=lanes, open=open) for _ in range(2))
    whole = used.indices(0, start + length)
    assert torch.equal(fresh.indices(start, start + length), whole[start:])


@given(COUNTS, st.integers(1, 4), st.integers(1, 4), SEEDS, LANES)
def test_processes_share_the_batch_that_a_single_one_would_take(
    counts: list[int], share: int, world: int, seed: int, lanes: int
) -> None:
    def sampler(rank: int, processes: int) -> Sampler:
        order = ShardOrder(counts, share * world, seed, lanes=lanes)
        return Sampler(sum(counts), share * world, seed, rank=rank, world=processes, order=order)

    alone, together = sampler(0, 1), [sampler(rank, world) for rank in range(world)]
    for _ in range(5):
        assert torch.equal(alone.next(), torch.cat([each.next() for each in together]))


@given(COUNTS, BATCHES, SEEDS, LANES, OPEN, st.integers(0, 200), st.integers(1, 30))
def test_the_shards_it_names_are_those_it_draws_from(
    counts: list[int], batch: int, seed: int, lanes: int, open: int, start: int, length: int
) -> None:
    order = ShardOrder(counts, batch, seed, lanes=lanes, open=open)
    drawn = order.indices(start, start + length)
    shards = np.searchsorted(np.cumsum(counts), drawn.numpy(), side="right")
    assert set(shards.tolist()) <= set(order.shards(start, start + length)[0])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_process_has_few_shards_open_and_reads_its_own_part(world: int) -> None:
    shards, size, batch, lanes, open = 64, 50, 16, 4, 2
    order = ShardOrder([size] * shards, batch, 3, lanes=lanes, open=open)
    share = batch // world
    read: list[set[int]] = []
    for rank in range(world):
        seen: set[int] = set()
        for step in range(shards * size // batch):
            begin = step * batch + rank * share
            now, soon = order.shards(begin, begin + share)
            # Two groups of a lane meet in a batch at most.
            assert len(now) <= 2 * open * lanes // world
            assert len(soon) <= open * lanes // world
            seen |= set((order.indices(begin, begin + share) // size).tolist())
        read.append(seen)
    assert set().union(*read) == set(range(shards))
    assert sum(map(len, read)) <= shards + lanes  # a shard at the cut of two lanes is read by both


def test_what_is_named_for_later_is_what_comes_next() -> None:
    order = ShardOrder([20] * 30, 8, 0, lanes=4, open=3)
    known: set[int] = set()
    surprises = 0
    for step in range(3 * 600 // 8):
        now, soon = order.shards(step * 8, step * 8 + 8)
        surprises += step > 0 and not set(now) <= known
        known = {*now, *soon}
    assert surprises == 0


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, other = ShardOrder([10] * 10, 5, 0), ShardOrder([10] * 10, 5, 1)
    orders = [first.indices(0, 100), first.indices(100, 200), other.indices(0, 100)]
    assert all(not torch.equal(orders[a], orders[b]) for a, b in [(0, 1), (0, 2), (1, 2)])


def test_neighbours_in_a_shard_are_far_apart_in_an_epoch() -> None:
    order = ShardOrder([100] * 40, 32, 0, lanes=8, open=2).indices(0, 4000)
    places = order.argsort()
    gaps = (places[1:] - places[:-1]).abs().float()
    # Of a full permutation they would be 1,333 apart in the mean; of samples in file order, 8.
    assert 300 < gaps.mean() < 1400
    batches = order.view(-1, 32) // 100
    assert min(len(batch.unique()) for batch in batches) >= 6


def test_a_set_of_a_billion_samples_needs_no_array_of_a_billion() -> None:
    order = ShardOrder([10_000] * 100_000, 256, 0, lanes=64)
    drawn = order.indices(7 * 10**8, 7 * 10**8 + 256)
    assert len(drawn.unique()) == 256
    assert int(drawn.max()) < 10**9


@given(COUNTS, SEEDS, st.integers(0, 120), st.integers(1, 4))
def test_chosen_samples_differ_and_fewer_are_the_first_of_more(
    counts: list[int], seed: int, count: int, spread: int
) -> None:
    chosen = choose_from_shards(counts, count, seed, spread=spread)
    assert len(chosen.unique()) == len(chosen) == min(count, sum(counts))
    assert torch.equal(choose_from_shards(counts, count // 2, seed, spread=spread), chosen[: count // 2])


def test_chosen_samples_open_no_more_shards_than_they_must() -> None:
    chosen = choose_from_shards([1000] * 500, 5000, 0)
    assert len((chosen // 1000).unique()) == 16
