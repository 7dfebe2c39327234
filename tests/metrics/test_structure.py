from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from sparring.metrics.structure import WEIGHTS, diversity, ms_ssim, psnr, scales, ssim

torch.set_num_threads(1)


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Images with structure at every scale."""
    random = torch.Generator().manual_seed(seed)
    size = shape[2:]
    layers = [torch.rand(*shape[:2], 2**k, 2**k, generator=random) for k in range(1, 5)]
    return torch.stack([F.interpolate(layer, size, mode="bilinear", align_corners=False) for layer in layers]).mean(0)


def noisy(images: Tensor, strength: float, seed: int = 1) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + strength * noise).clamp(0, 1)


def blurred(images: Tensor, times: int) -> Tensor:
    for _ in range(times):
        images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 48), (2, 4, 8, 11), (1, 1, 6, 6)])
def test_ssim_agrees_with_torchmetrics(shape: tuple[int, ...]) -> None:
    a = smooth(*shape)
    b = noisy(a, 0.1)
    theirs = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), theirs, rtol=0, atol=1e-5)


def test_psnr_agrees_with_torchmetrics() -> None:
    a = smooth(3, 3, 16, 16)
    b = noisy(a, 0.1)
    theirs = peak_signal_noise_ratio(a, b, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr(a, b), theirs)


def test_ms_ssim_agrees_with_torchmetrics_at_five_scales() -> None:
    a = smooth(2, 3, 177, 190)
    b = noisy(a, 0.1)
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(ms_ssim(a, b), theirs, rtol=0, atol=1e-5)


def test_ms_ssim_of_small_images_is_torchmetrics_with_the_finest_scales_reweighted() -> None:
    a = smooth(2, 1, 64, 64)
    b = noisy(a, 0.1)
    weights = tuple(weight * sum(WEIGHTS) / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3])
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, betas=weights, reduction="none")
    torch.testing.assert_close(ms_ssim(a, b), theirs, rtol=0, atol=1e-5)


def test_scales_leave_eleven_pixels_and_are_never_more_than_five() -> None:
    sizes = {8: 1, 21: 1, 22: 2, 28: 2, 32: 2, 44: 3, 64: 3, 88: 4, 175: 4, 176: 5, 1024: 5}
    assert {size: scales(size, 2 * size) for size in sizes} == sizes


@pytest.mark.parametrize("shape", [(2, 1, 2, 3), (2, 1, 8, 8), (2, 3, 28, 28), (1, 2, 40, 90)])
def test_equal_images_are_alike_to_the_full(shape: tuple[int, ...]) -> None:
    a = smooth(*shape)
    assert psnr(a, a).tolist() == [math.inf] * len(a)
    torch.testing.assert_close(ssim(a, a), torch.ones(len(a)))
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(len(a)))


def test_flat_images_have_the_closed_forms() -> None:
    a, b = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.7)
    assert float(psnr(a, b)) == pytest.approx(-10 * math.log10(0.25), rel=1e-5)
    assert float(ssim(a, b)) == pytest.approx((2 * 0.14 + 1e-4) / (0.04 + 0.49 + 1e-4), rel=1e-4)


def test_measures_are_symmetric_and_tell_pairs_apart() -> None:
    a = smooth(3, 1, 28, 28)
    b = torch.stack([a[0], noisy(a, 0.05)[1], noisy(a, 0.3)[2]])
    for measure in (psnr, ssim, ms_ssim):
        torch.testing.assert_close(measure(a, b), measure(b, a))
        assert measure(a, b).diff().max() < 0


@pytest.mark.parametrize("size", [8, 28, 64])
def test_likeness_falls_with_noise_and_with_blur(size: int) -> None:
    a = smooth(4, 1, size, size)
    for worse in (
        [noisy(a, strength) for strength in (0.02, 0.05, 0.1, 0.3)],
        [blurred(a, times) for times in (1, 2, 4, 8)],
    ):
        for measure in (psnr, ssim, ms_ssim):
            assert torch.stack([measure(a, b).mean() for b in worse]).diff().max() < 0


def test_structure_that_is_inverted_has_negative_ssim_and_no_ms_ssim() -> None:
    a = smooth(1, 1, 28, 28)
    a = (a - a.mean()) * 2 + 0.5
    assert float(ssim(a.clamp(0, 1), (1 - a).clamp(0, 1))) < 0
    assert float(ms_ssim(a.clamp(0, 1), (1 - a).clamp(0, 1))) == 0


def test_pairs_in_chunks_give_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    a = smooth(5, 1, 28, 28)
    b = noisy(a, 0.1)
    whole, spread = ms_ssim(a, b), diversity(a, pairs=20)
    monkeypatch.setattr("sparring.metrics.structure.CHUNK", 2 * 28 * 28)
    torch.testing.assert_close(ms_ssim(a, b), whole)
    assert diversity(a, pairs=20) == pytest.approx(spread, rel=1e-6)


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images / 16).float().view(-1, 1, 8, 8), torch.from_numpy(labels)


def test_samples_of_one_class_are_less_diverse_and_copies_not_at_all() -> None:
    images, labels = digits()
    everything = diversity(images)
    assert everything + 0.1 < diversity(images[labels == 0]) < 1
    assert diversity(images[:1].repeat(10, 1, 1, 1)) == pytest.approx(1)


def test_diversity_compares_no_sample_with_itself_and_repeats_with_its_seed() -> None:
    a = smooth(2, 1, 16, 16)
    pair = float(ms_ssim(a[:1], a[1:]))
    assert diversity(a, pairs=7) == pytest.approx(pair, rel=1e-5)
    images = digits()[0][:100]
    assert diversity(images, pairs=50, seed=3) == diversity(images, pairs=50, seed=3)
    assert diversity(images, pairs=50, seed=3) != diversity(images, pairs=50, seed=4)


def test_other_shapes_and_ranges_are_refused() -> None:
    a = smooth(2, 1, 16, 16)
    for b, word in ((a[:1], "pairs"), (2 * a - 1, r"\[0, 1\]"), (a * math.nan, r"\[0, 1\]")):
        with pytest.raises(ValueError, match=word):
            ssim(a, b)
    with pytest.raises(ValueError, match="two images"):
        diversity(a[:1])
