"""The order of samples that lie in shards: random, yet only a few shards are open at a time.

An epoch is the line of all shards in a random order, cut into `lanes` segments. Every batch takes the same share from
each lane, so processes that share a batch evenly read different shards. Within its lane a process reads `open` shards
at a time, mixed by a permutation of their union: a shuffle buffer as large as these shards, with no state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.data.sampling import generator

SPREAD = 16  # shards that the first of chosen samples come from

_SHARDS, _GROUP, _CHOICE, _CHOSEN = range(4)  # what a random stream is for


class ShardOrder:
    """An `Order` that keeps to few shards. It does not depend on the number of processes.

    counts: samples of each shard; the index of a sample counts through them. batch_size: of all processes together.
    lanes: segments of an epoch that are read side by side; slots [j·B/L, (j+1)·B/L) of each batch of B come from lane j.
        The number of processes that use it should divide it. open: shards of a lane that are mixed at a time.

    Lanes are cut at samples, not at shards, and as long as their slots of the epoch are many: each sample comes exactly
    once an epoch, whatever the numbers. A shard at a cut is read by both lanes. Memory: O(shards + samples that are
    open).
    """

    def __init__(self, counts: Sequence[int], batch_size: int, seed: int, *, lanes: int = 8, open: int = 2) -> None:
        self.counts = np.asarray(counts, np.int64)
        self.starts = np.concatenate([[0], self.counts.cumsum()])
        self.count, self.batch_size, self.seed, self.open = int(self.starts[-1]), batch_size, seed, open
        self.lanes = min(lanes, batch_size)
        self._edges = np.arange(self.lanes + 1) * batch_size // self.lanes
        self._lanes: OrderedDict[tuple[int, int], _Lane] = OrderedDict()
        self._lines: OrderedDict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = OrderedDict()
        self._mixed: dict[int, tuple[tuple[int, int], Tensor]] = {}
        self._latest: tuple[tuple[int, int], list[tuple[int, int, Tensor, int]]] | None = None
        self._opened: tuple[list[tuple[int, ...]], tuple[list[int], list[int]]] = [], ([], [])

    def indices(self, start: int, stop: int) -> Tensor:
        """The samples at positions [start, stop): int64 (stop - start,), on the CPU."""
        found = torch.empty(stop - start, dtype=torch.int64)
        for epoch, lane, positions, first in self._runs(start, stop):
            found[positions - start] = self._items(epoch, lane, first, first + len(positions))
        return found

    def shards(self, start: int, stop: int) -> tuple[list[int], list[int]]:
        """The shards that are open at positions [start, stop), and those that their lanes open next.

        The very same lists as the last time, where nothing has changed.
        """
        groups: list[tuple[int, ...]] = []
        for epoch, lane, positions, item in self._runs(start, stop):
            segment = self._lane(epoch, lane)
            groups.append((epoch, lane, segment.group_of(item), segment.group_of(item + len(positions) - 1)))
        if groups != self._opened[0]:
            self._opened = groups, self._open_in(groups)
        return self._opened[1]

    def _open_in(self, groups: list[tuple[int, ...]]) -> tuple[list[int], list[int]]:
        now: dict[int, None] = {}
        soon: dict[int, None] = {}
        for epoch, lane, first, last in groups:
            segment = self._lane(epoch, lane)
            for group in range(first, last + 1):
                now.update(dict.fromkeys(segment.shards(group)))
            following = last + 1
            if following >= segment.groups:
                segment, following = self._lane(epoch + 1, lane), 0
            soon.update(dict.fromkeys(segment.shards(following) if segment.groups else []))
        return list(now), [shard for shard in soon if shard not in now]

    def _runs(self, start: int, stop: int) -> list[tuple[int, int, Tensor, int]]:
        """(epoch, lane, positions, item) for each lane's part of positions; `item` numbers the first within its lane."""
        if self._latest and self._latest[0] == (start, stop):
            return self._latest[1]
        asked, runs = (start, stop), []
        while start < stop:
            epoch = start // self.count
            end = min(stop, (epoch + 1) * self.count)
            positions = np.arange(start, end)
            lanes = np.searchsorted(self._edges, positions % self.batch_size, side="right") - 1
            for lane in np.unique(lanes).tolist():
                own = positions[lanes == lane]
                item = self._taken(lane, int(own[0])) - self._taken(lane, epoch * self.count)
                runs.append((epoch, lane, torch.from_numpy(own), item))
            start = end
        self._latest = asked, runs
        return runs

    def _taken(self, lane: int, position: int) -> int:
        """Slots of a lane before a position."""
        first, end = int(self._edges[lane]), int(self._edges[lane + 1])
        batches, slot = divmod(position, self.batch_size)
        return batches * (end - first) + min(max(slot - first, 0), end - first)

    def _line(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shards of an epoch in their random order, and where each begins in the line of all samples."""
        if epoch not in self._lines:
            permuted = torch.randperm(len(self.counts), generator=generator(self.seed, epoch, _SHARDS)).numpy()
            self._lines[epoch] = permuted, np.concatenate([[0], self.counts[permuted].cumsum()])
            if len(self._lines) > 2:
                self._lines.popitem(last=False)
        return self._lines[epoch]

    def _lane(self, epoch: int, lane: int) -> _Lane:
        """A lane's segment of the line of an epoch."""
        key = epoch, lane
        if key not in self._lanes:
            # Segments as long as the lanes' slots are many: no lane ends before the others, and none has a rest.
            lengths = [
                self._taken(each, (epoch + 1) * self.count) - self._taken(each, epoch * self.count)
                for each in range(lane + 1)
            ]
            end = sum(lengths)
            self._lanes[key] = _cut(*self._line(epoch), self.starts, end - lengths[lane], end, self.open)
            if len(self._lanes) > 2 * self.lanes:
                self._lanes.popitem(last=False)
        return self._lanes[key]

    def _items(self, epoch: int, lane: int, first: int, stop: int) -> Tensor:
        """Samples first … stop of a lane."""
        segment = self._lane(epoch, lane)
        parts = []
        while first < stop:
            group = segment.group_of(first)
            begin = segment.ends[group - 1] if group else 0
            part = self._group(epoch, lane, group)[first - begin : stop - begin]
            parts.append(part)
            first += len(part)
        return torch.cat(parts)

    def _group(self, epoch: int, lane: int, group: int) -> Tensor:
        """All samples of the shards that a lane has open together, mixed."""
        key, samples = self._mixed.get(lane, ((-1, -1), torch.empty(0)))
        if key != (epoch, group):
            parts = [torch.arange(start, stop) for start, stop in self._lane(epoch, lane).pieces(group)]
            whole = torch.cat(parts)
            chance = generator(self.seed, epoch, _GROUP, lane, group)
            samples = whole[torch.randperm(len(whole), generator=chance)]
            self._mixed[lane] = (epoch, group), samples
        return samples


@dataclass(frozen=True)
class _Lane:
    """A segment of an epoch's line of shards.

    numbers: its shards; begins, stops: the samples of each that belong to it. bounds: the first shard of each group,
    and their number at the end. ends: samples of the lane up to the end of each group.
    """

    numbers: NDArray[np.int64]
    begins: NDArray[np.int64]
    stops: NDArray[np.int64]
    bounds: list[int]
    ends: list[int]

    @property
    def groups(self) -> int:
        """How many there are; none where a lane has no slot in an epoch (of fewer samples than lanes)."""
        return len(self.ends)

    def group_of(self, item: int) -> int:
        """The group of the lane's n-th sample."""
        return bisect_right(self.ends, item)

    def shards(self, group: int) -> list[int]:
        """The shards that are open together."""
        return [int(number) for number in self.numbers[self.bounds[group] : self.bounds[group + 1]]]

    def pieces(self, group: int) -> list[tuple[int, int]]:
        """The ranges of samples in a group."""
        part = slice(self.bounds[group], self.bounds[group + 1])
        return list(zip(self.begins[part].tolist(), self.stops[part].tolist(), strict=True))


def _cut(
    permuted: NDArray[np.int64],
    begins: NDArray[np.int64],
    starts: NDArray[np.int64],
    first: int,
    end: int,
    open: int,
) -> _Lane:
    """Samples [first, end) of a line of shards `permuted` that begin at `begins`; `starts`: each shard's first sample."""
    low = int(np.searchsorted(begins, first, side="right")) - 1
    high = int(np.searchsorted(begins, end, side="left"))
    places = np.arange(low, max(low, high))
    skipped = np.maximum(first - begins[places], 0)
    taken = np.minimum(end, begins[places + 1]) - begins[places]
    filled = taken > skipped  # empty shards have no part
    numbers, skipped, taken = permuted[places[filled]], skipped[filled], taken[filled]
    # The first group is a single shard: a training begins when one shard of each lane is there, not when `open` are.
    bounds = [0, *range(1, len(numbers), open), len(numbers)] if len(numbers) else [0]
    ends = (taken - skipped).cumsum()
    return _Lane(
        numbers,
        starts[numbers] + skipped,
        starts[numbers] + taken,
        bounds,
        [int(ends[bound - 1]) for bound in bounds[1:]],
    )


def choose_from_shards(counts: Sequence[int], count: int, seed: int, *, spread: int = SPREAD) -> Tensor:
    """At most `count` different samples in a random order that opens few shards: int64, on the CPU.

    They come from `spread` shards, chosen at random; where these do not hold enough, from as many more after them, and
    so on. With a smaller `count` the same seed gives the beginning of the same list.
    """
    starts = np.concatenate([[0], np.asarray(counts, np.int64).cumsum()])
    permuted = torch.randperm(len(counts), generator=generator(seed, _CHOICE)).numpy()
    parts: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    missing = count
    for first in range(0, len(permuted), spread):
        if missing <= 0:
            break
        shards = permuted[first : first + spread]
        whole = torch.cat([torch.arange(int(starts[shard]), int(starts[shard + 1])) for shard in shards])
        part = whole[torch.randperm(len(whole), generator=generator(seed, _CHOSEN, first))][:missing]
        parts.append(part)
        missing -= len(part)
    return torch.cat(parts)
