"""Batch norm over the whole batch, with the other process's half played by the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.adversarial import mixes_samples
from sparring.core.processes import Group
from sparring.nn.batch_norm import WholeBatchNorm, synchronise_batch_norm

torch.set_num_threads(1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 4), nn.BatchNorm1d(4))


@contextmanager
def met(monkeypatch: pytest.MonkeyPatch, layer: nn.Module, other: Tensor) -> Iterator[None]:
    """Inside, this is one of two processes, and the other has `other` to normalise."""

    def all_reduce(value: Tensor) -> None:
        across = [0, *range(2, other.ndim)]
        offset = other.mean(across) - layer.running_mean
        value.add_(torch.stack([offset, other.var(across, correction=0) + offset.square()]))

    monkeypatch.setattr(processes.dist, "all_reduce", all_reduce)
    with Group(0, 2, torch.device("cpu"), None).playing():
        yield


def test_layers_keep_their_names_and_are_still_seen_as_batch_norm() -> None:
    module = network()
    held, before = module[1], {name: value.clone() for name, value in module.state_dict().items()}
    synchronise_batch_norm(module)
    assert module[1] is held and isinstance(module[1], WholeBatchNorm) and isinstance(module[4], WholeBatchNorm)
    assert mixes_samples(module)
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_alone_and_in_eval_mode_it_is_pytorchs_own() -> None:
    plain, whole = network(), network()
    synchronise_batch_norm(whole)
    x = torch.randn(6, 2, 4, 4)
    for training in (True, False):
        assert torch.equal(plain.train(training)(x), whole.train(training)(x))
    with Group(0, 2, torch.device("cpu"), None).playing():
        assert torch.equal(plain(x), whole(x))


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 2, 5), (8, 3, 2, 2, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_half_a_batch_is_normalised_as_part_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], momentum: float | None
) -> None:
    kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    torch.manual_seed(0)
    x = 3 * torch.randn(shape) + 40  # far from the running mean, and so large that squares would lose digits
    plain, half = kind(3, momentum=momentum), kind(3, momentum=momentum)
    for layer in (plain, half):
        layer.weight.data[:] = torch.tensor([1.0, 2.0, -1.0])
        layer.bias.data[:] = torch.tensor([0.5, 0.0, 1.0])
    synchronise_batch_norm(half)
    for _ in range(3):
        expected = plain(x)[:4]
        with met(monkeypatch, half, x[4:]):
            torch.testing.assert_close(half(x[:4]), expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(half.state_dict(), plain.state_dict(), atol=1e-4, rtol=1e-5)


def test_half_precision_is_normalised_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.BatchNorm1d(3)
    synchronise_batch_norm(layer)
    x = torch.randn(8, 3).bfloat16()
    with met(monkeypatch, layer, x.float()):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), nn.BatchNorm1d(3)(x.float()), atol=2e-2, rtol=0)
