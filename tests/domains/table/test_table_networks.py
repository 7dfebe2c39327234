"""The generator of rows makes the same rows by the short way, which statistics that stand still allow, as by the long one."""

from __future__ import annotations

import pytest
import torch

from sparring.domains.table.networks import RowGenerator
from sparring.domains.table.rows import asked_cells

torch.set_num_threads(1)


@pytest.mark.parametrize("size", [16, 21])
@pytest.mark.parametrize("asked", ["none", "one", "several", "now and then", "nothing"])
def test_the_short_way_makes_the_rows_of_the_long_one(asked: str, size: int) -> None:
    torch.manual_seed(0)
    conditions = 0 if asked == "none" else 7
    net = RowGenerator(size, 5, conditions, width=12, depth=3)
    condition = {"none": None, "one": torch.eye(7)[torch.arange(30) % 7], "several": (torch.rand(30, 7) < 0.4).float(),
                 "now and then": (torch.rand(30, 7) < 0.05).float(), "nothing": torch.zeros(30, 7)}[asked]  # fmt: skip
    latent = torch.randn(30, 5)
    for _ in range(3):
        net(torch.randn(50, 5), None if condition is None else torch.rand(50, 7))  # norms that have seen something
    net.eval()
    long = net(latent, condition)
    with torch.no_grad():
        short = net(latent, condition)
    assert long.requires_grad and short.shape == (30, size)
    assert torch.allclose(long, short, atol=1e-5) and long.std() > 0.05


def test_what_is_asked_for_is_found_row_by_row() -> None:
    asked = torch.tensor([[0.0, 1, 0], [0, 0, 0], [1, 0, 1]])
    rows, which = asked_cells(asked)
    assert rows.tolist() == [0, 2, 2] and which.tolist() == [1, 0, 2]
