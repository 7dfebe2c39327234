"""Random numbers: plain torch for one process, the whole batch's for several, dealt to each its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.processes import Group, alone, current

torch.set_num_threads(1)

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
IMAGES = torch.zeros(6, 3, 4, 4)

# Each draws for so many samples.
DRAWS: dict[str, Callable[[int], Tensor]] = {
    "normal": lambda count: chance.normal(count, 3, device=CPU),
    "uniform": lambda count: chance.uniform(count, 1, 1, device=CPU, dtype=torch.float64),
    "integers": lambda count: chance.integers(2, 9, count, device=CPU),
    "choices": lambda count: chance.choices(WEIGHTS, count),
    "normal_like": lambda count: chance.normal_like(torch.zeros(count, 3, 4, 4)),
    "uniform_like": lambda count: chance.uniform_like(torch.zeros(count, 5, dtype=torch.float64)),
    "channels last": lambda count: chance.normal_like(
        torch.zeros(count, 3, 4, 4).to(memory_format=torch.channels_last)
    ),
    "dropout": lambda count: chance.dropout(torch.ones(count, 7), 0.4),
    "elsewhere": lambda count: chance.drawn_elsewhere(count, lambda n: {"x": torch.rand(n, 2)}, CPU)["x"],
}  # fmt: skip

# What the same functions are in torch, for six samples.
PLAIN: dict[str, Callable[[], Tensor]] = {
    "normal": lambda: torch.randn(6, 3),
    "uniform": lambda: torch.rand(6, 1, 1, dtype=torch.float64),
    "integers": lambda: torch.randint(2, 9, (6,)),
    "choices": lambda: torch.multinomial(WEIGHTS, 6, replacement=True),
    "normal_like": lambda: torch.randn_like(IMAGES),
    "uniform_like": lambda: torch.rand_like(torch.zeros(6, 5, dtype=torch.float64)),
    "channels last": lambda: torch.randn_like(IMAGES.to(memory_format=torch.channels_last)),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(6, 7), 0.4),
    "elsewhere": lambda: torch.rand(6, 2),
}


@pytest.mark.parametrize("name", DRAWS)
def test_one_process_draws_what_torch_draws(name: str) -> None:
    torch.manual_seed(3)
    expected = [PLAIN[name](), torch.rand(1)]
    torch.manual_seed(3)
    assert torch.equal(DRAWS[name](6), expected[0])
    assert torch.equal(torch.rand(1), expected[1])


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("world", [2, 3])
def test_processes_draw_together_what_one_draws(name: str, world: int) -> None:
    torch.manual_seed(3)
    expected = [DRAWS[name](6), DRAWS["normal"](6)]
    torch.manual_seed(8)
    untouched = torch.get_rng_state()
    shares = []
    for rank in range(world):
        with Group(rank, world, CPU, 3).playing():
            shares.append([DRAWS[name](6 // world), DRAWS["normal"](6 // world)])
    for whole, parts in zip(expected, zip(*shares, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(torch.get_rng_state(), untouched), "the common stream is not the global generator"


def test_numbers_keep_the_memory_format_of_the_samples() -> None:
    with Group(1, 2, CPU, 3).playing():
        assert DRAWS["channels last"](4).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["normal_like", "dropout"])
def test_of_several_lots_in_a_row_a_process_has_its_part_of_each(name: str) -> None:
    torch.manual_seed(3)
    real, fake = DRAWS[name](8).chunk(2)
    for rank in range(2):
        group = Group(rank, 2, CPU, 3)
        group.at_hand = 2
        with group.playing():
            part = DRAWS[name](4)
        own = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(part, torch.cat([real[own], fake[own]]))


def test_what_holds_for_all_samples_is_not_dealt_out() -> None:
    def draw(count: int) -> dict[str, Tensor]:
        return {"angle": torch.rand(count), "order": torch.randperm(4)}

    torch.manual_seed(3)
    whole = draw(4)
    with Group(1, 2, CPU, 3).playing():
        part = chance.drawn_elsewhere(2, draw, CPU, common=["order"])
    assert torch.equal(part["order"], whole["order"])
    assert torch.equal(part["angle"], whole["angle"][2:])


def test_a_generator_of_ones_own_is_nobody_elses() -> None:
    expected = torch.randn(4, 2, generator=torch.Generator().manual_seed(5))
    with Group(1, 2, CPU, 3).playing():
        assert torch.equal(chance.normal(4, 2, device=CPU, rng=torch.Generator().manual_seed(5)), expected)


def test_a_process_by_itself_leaves_the_common_stream_alone() -> None:
    group = Group(1, 2, CPU, 3)
    before = group.state()["torch"]
    with group.playing():
        with alone():
            assert current() is None
            torch.manual_seed(4)
            assert torch.equal(chance.normal(4, 2, device=CPU), torch.manual_seed(4) and torch.randn(4, 2))
        assert current() is group
    assert current() is None
    assert torch.equal(group.state()["torch"], before)


def test_noise_of_their_own_is_drawn_from_the_global_generator() -> None:
    with Group(1, 2, CPU, None).playing():
        torch.manual_seed(4)
        assert torch.equal(chance.normal(4, 2, device=CPU), torch.manual_seed(4) and torch.randn(4, 2))


def test_a_common_stream_goes_on_from_the_state_of_a_single_process() -> None:
    torch.manual_seed(3)
    torch.rand(11)
    state = {"torch": torch.get_rng_state(), "python": torch.zeros(1)}
    expected = torch.rand(6)
    group = Group(1, 2, CPU, 9)
    group.restore(state)
    with group.playing():
        assert torch.equal(chance.uniform(3, device=CPU), expected[3:])
    torch.set_rng_state(group.state()["torch"])
    again = Group(0, 2, CPU, 9)
    again.restore(group.state())
    with again.playing():
        assert torch.equal(chance.uniform(3, device=CPU), torch.rand(6)[:3])
