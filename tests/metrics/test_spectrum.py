from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.metrics.spectrum import spectrum, spectrum_distance

torch.set_num_threads(1)


def natural(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Images whose amplitudes fall with frequency, as photographs' do."""
    random = torch.Generator().manual_seed(seed)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    fall = 1 / (fy.square() + fx.square()).sqrt().clamp(min=1 / max(height, width))
    noise = torch.fft.rfft2(torch.randn(count, 1, height, width, generator=random))
    images = torch.fft.irfft2(noise * fall, s=(height, width))
    return (0.5 + 0.15 * images / images.std()).clamp(0, 1)


def blurred(images: Tensor, times: int) -> Tensor:
    for _ in range(times):
        images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (17, 32), (64, 9), (1, 16)])
def test_white_noise_has_its_variance_at_every_frequency(size: tuple[int, int]) -> None:
    images = 0.1 * torch.randn(4000, 1, *size, generator=torch.Generator().manual_seed(0))
    # The mean of a logarithm lies below the logarithm of the mean: by 10/ln 10·0.577 dB where one frequency is a ring.
    gap = 10 * math.log10(0.1**2) - spectrum(images)
    assert gap.min() > -0.1 and gap.max() < 6
    assert gap.median() < 1.5


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_power_is_kept_ring_by_ring_as_in_a_full_transform(size: tuple[int, int]) -> None:
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    power = torch.fft.fft2(image[0, 0].double()).abs().square() / math.prod(size)
    radius = (torch.fft.fftfreq(size[0])[:, None].square() + torch.fft.fftfreq(size[1]).square()).sqrt()
    rings = (radius * min(size) + 0.5).floor().long()
    power[0, 0] = math.nan
    means = [power[rings == ring].nanmean() for ring in rings.unique()]
    expected = 10 * (torch.stack([mean for mean in means if mean.isfinite()]) + 1 / (12 * 255**2)).log10()
    torch.testing.assert_close(spectrum(image), expected, rtol=1e-4, atol=1e-3)


def test_a_sine_shows_at_its_frequency() -> None:
    wave = 0.5 + 0.4 * torch.sin(2 * math.pi * 5 * torch.arange(32) / 32)
    found = spectrum(wave.expand(1, 1, 32, 32))
    assert int(found.argmax()) == 4  # the fifth ring: frequency 0 has none
    assert found[4] - found[[3, 5]].max() > 20


def test_checkerboard_shows_in_the_last_ring_whatever_the_brightness() -> None:
    clean = natural(20, 16, 24)
    board = ((torch.arange(16)[:, None] + torch.arange(24)) % 2).float()
    gain = spectrum(clean * 0.9 + 0.05 * board) - spectrum(clean * 0.9)
    assert int(gain.argmax()) == len(gain) - 1 and gain[-1] > 10
    torch.testing.assert_close(spectrum(clean * 0.5), spectrum(clean * 0.5 + 0.3), atol=1e-3, rtol=0)


def test_flat_images_lie_at_the_noise_of_bytes() -> None:
    torch.testing.assert_close(
        spectrum(torch.full((2, 3, 8, 8), 0.5)),
        torch.full((6,), 10 * math.log10(1 / (12 * 255**2)), dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )


def test_distance_is_nought_for_equal_sets_symmetric_and_small_for_equal_sources() -> None:
    a, b = natural(400, 28, 28, seed=0), natural(400, 28, 28, seed=1)
    assert spectrum_distance(a, a) == 0
    assert spectrum_distance(a, b) == pytest.approx(spectrum_distance(b, a))
    assert spectrum_distance(a, b) < 0.3 < 2 < spectrum_distance(a, blurred(b, 1))


@pytest.mark.parametrize("size", [(28, 28), (24, 40)])
def test_distance_grows_with_blur_noise_and_checkerboards(size: tuple[int, int]) -> None:
    real, fake = natural(100, *size, seed=0), natural(100, *size, seed=1)
    board = ((torch.arange(size[0])[:, None] + torch.arange(size[1])) % 2).float() - 0.5
    noise = torch.randn(fake.shape, generator=torch.Generator().manual_seed(2))
    for worse in (
        [blurred(fake, times) for times in (0, 1, 2, 4)],
        [fake + strength * noise for strength in (0, 0.02, 0.05, 0.2)],
        [fake + strength * board for strength in (0, 0.02, 0.05, 0.2)],
    ):
        distances = [spectrum_distance(real, images.clamp(0, 1)) for images in worse]
        assert distances == sorted(distances) and distances[-1] > 3 * distances[0]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = natural(7, 12, 12).repeat(1, 3, 1, 1)
    whole = spectrum(images)
    monkeypatch.setattr("sparring.metrics.spectrum.CHUNK", 12 * 12 * 2)
    torch.testing.assert_close(spectrum(images), whole)


def test_sizes_that_differ_and_empty_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        spectrum_distance(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 9))
    with pytest.raises(ValueError, match="needs images"):
        spectrum(torch.rand(0, 1, 8, 8))
    with pytest.raises(ValueError, match="needs images"):
        spectrum(torch.rand(3, 1, 1, 1))
