"""Our recurrent units against torch's."""

from __future__ import annotations

import torch

from sparring.domains.series.gru import GRU, gru


def test_states_and_slopes_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU(3, 5, 2).double(), torch.nn.GRU(3, 5, 2, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 6, 3, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 6, 5, dtype=torch.double)
    slopes = []
    for network in (ours, theirs):
        states, last = network(x)
        slopes.append(torch.autograd.grad((weight * states).sum() + last.square().sum(), [x, *network.parameters()]))
    torch.testing.assert_close(slopes[0], slopes[1])
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_the_slope_by_every_parameter_is_that_of_small_changes_also_for_networks_side_by_side() -> None:
    torch.manual_seed(1)
    for several in ((), (2,)):
        shapes = [(4, *several, 2, 3), (*several, 9, 2), (*several, 9, 3), (*several, 9), (*several, 3)]
        inputs = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
        assert torch.autograd.gradcheck(gru, inputs)
