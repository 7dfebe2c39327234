"""What only a GPU can show. `CUDA_VISIBLE_DEVICES=0 pytest tests/training/test_gpu.py`; the other tests hide GPUs from themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import sparring
from sparring.domains.image.data import ImageOptions, open_images
from sparring.training.checkpoint import newest_good

torch.set_num_threads(1)
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU is here, or CUDA_VISIBLE_DEVICES hides it"
)

TINY = ["train.steps=6", "train.batch_size=16", "model.generator.width=8", "model.discriminator.width=8"]


def weights(recipe: str, folder: Path, *keys: str) -> dict[str, torch.Tensor]:
    """The game after a few steps on digits."""
    sparring.train(recipe, out=folder, set=[*TINY, "evaluate.metric=null", *keys], device="cuda", quiet=True)
    checkpoint = newest_good(folder / "checkpoints", print)
    assert checkpoint
    return checkpoint.tensors("game")


def test_images_lie_on_the_gpu_as_bytes_and_batches_are_made_there() -> None:
    data = open_images(ImageOptions(source="digits")).to(torch.device("cuda"))
    batch = data.batch(torch.arange(4))
    assert batch["data"].device.type == batch["label"].device.type == "cuda"
    assert data._images.device.type == "cuda" and data._images.dtype == torch.uint8


@pytest.mark.parametrize("recipe", ["dcgan", "default", "wgan-gp"])
def test_the_same_seed_gives_the_same_bits(recipe: str, tmp_path: Path) -> None:
    first, second = weights(recipe, tmp_path / "a"), weights(recipe, tmp_path / "b")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("recipe", ["dcgan", "default"])
@pytest.mark.parametrize("how", ["true", "graphs"])
def test_compiled_networks_play_the_same_game(recipe: str, how: str, tmp_path: Path) -> None:
    plain = weights(recipe, tmp_path / "a", "machine.precision=32")
    fast = weights(recipe, tmp_path / "b", "machine.precision=32", f"machine.compile={how}")
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-2, atol=1e-2)


def test_half_precision_is_the_usual_one_where_the_gpu_has_it(tmp_path: Path) -> None:
    result = sparring.train("dcgan", out=tmp_path, set=[*TINY, "evaluate.metric=null"], device="cuda", quiet=True)
    assert result.precision == ("bf16" if torch.cuda.is_bf16_supported() else "32")
    assert all(math.isfinite(value) for value in result.losses.values())
