"""Drawing from a trained generator: the same samples for a seed, however they are drawn and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.domains import Domain
from sparring.errors import UserError
from sparring.trained import Trained, load, passing

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional generator of digits, barely trained."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    changes = ["data.limit=100", "train.batch_size=8", "train.sample_count=10", "train.checkpoint_every=2"]
    sparring.train("cgan", data="digits", out=folder, steps=2, set=changes, device="cpu", quiet=True)
    return folder


@pytest.fixture
def trained(run: Path) -> Trained:
    return load(run, device="cpu")


def drawn(trained: Trained, count: int, **options: object) -> dict[str, Tensor]:
    pieces = list(trained.generate(count, seed=3, **options))  # type: ignore[arg-type]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


@pytest.mark.parametrize("batch_size", [1, 7, 100, 255])
def test_the_batch_size_changes_no_sample(trained: Trained, batch_size: int) -> None:
    whole, parts = drawn(trained, 300), drawn(trained, 300, batch_size=batch_size)
    assert torch.equal(whole["label"], parts["label"])
    # Sums over other tiles may differ in the last bit.
    torch.testing.assert_close(parts["data"], whole["data"], rtol=0, atol=1e-5)


def test_batches_are_cut_from_draws_of_256(trained: Trained) -> None:
    assert [batch.count for batch in trained.generate(300, batch_size=100)] == [100, 100, 56, 44]
    assert [batch.count for batch in trained.generate(600)] == [256, 256, 88]


@pytest.mark.parametrize("batch_size", [0, Domain.drawn + 1])
def test_a_batch_size_that_cannot_be_is_the_users_error(trained: Trained, batch_size: int) -> None:
    with pytest.raises(UserError, match=f"batch size of {batch_size} cannot be.*say 1 to 256"):
        trained.generate(3, batch_size=batch_size)


def test_half_the_bits_draw_nearly_the_same_samples(trained: Trained) -> None:
    single, half = drawn(trained, 40), drawn(trained, 40, precision="bf16")
    assert half["data"].dtype == torch.float32
    assert not torch.equal(half["data"], single["data"])
    torch.testing.assert_close(half["data"], single["data"], rtol=0, atol=0.05)
    with pytest.raises(UserError, match="unknown precision '8' of drawing; there are 32, bf16, 16"):
        trained.generate(3, precision="8")


class Counting(nn.Module):
    """Notes the sizes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        self.sizes.append(len(first))
        return first if second is None else first + second


def test_a_module_looks_at_parts_only_inside_and_joins_them() -> None:
    module, values = Counting(), torch.arange(10.0)
    with passing([module], 10, 4):
        assert torch.equal(module(values, second=values), 2 * values)
        assert module(torch.ones(3)).shape == (3,)  # not the samples: left whole
        module(values, torch.ones(1))
    assert torch.equal(module(values), values)
    assert module.sizes == [4, 4, 2, 3, 10, 10]


def test_npy_holds_the_images_of_npz_and_the_labels_lie_beside(run: Path, tmp_path: Path) -> None:
    (npz,) = sparring.generate(run, count=20, out=tmp_path / "a.npz", device="cpu")
    images, labels = sparring.generate(run, count=20, out=tmp_path / "a.npy", device="cpu", batch_size=3)
    with np.load(npz) as arrays:
        # A value on the border between two greys may fall to either side.
        assert np.abs(np.load(images).astype(int) - arrays["images"]).max() <= 1
        assert np.array_equal(np.load(labels), arrays["labels"])
    assert (images, labels) == (tmp_path / "a.npy", tmp_path / "a-labels.npy")


@pytest.mark.parametrize("name", ["a.jpg", "a.csv"])
def test_an_ending_that_images_cannot_have_is_the_users_error(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"cannot write .*{name}: name a \.png \(one sheet\)"):
        sparring.generate(run, count=2, out=tmp_path / name, device="cpu")
    assert not list(tmp_path.iterdir())
