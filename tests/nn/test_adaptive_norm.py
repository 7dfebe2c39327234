"""AdaIN: a style sets each channel's mean and deviation, whatever they were before."""

from __future__ import annotations

import torch

from sparring.nn.adaptive_norm import AdaptiveInstanceNorm


def test_the_style_sets_the_mean_and_the_deviation_of_each_sample_and_channel() -> None:
    torch.manual_seed(0)
    layer = AdaptiveInstanceNorm(5, 3)
    style = torch.randn(4, 3)
    made = layer(7 * torch.randn(4, 5, 32, 32) - 2, style)
    gain, bias = layer.affine(style).chunk(2, dim=1)
    deviation, mean = torch.std_mean(made, (2, 3), correction=0)
    assert torch.allclose(mean, bias, atol=1e-5)
    assert torch.allclose(deviation, gain.abs(), rtol=1e-4)


def test_brightness_and_contrast_of_the_content_do_not_matter() -> None:
    torch.manual_seed(0)
    layer, style, maps = AdaptiveInstanceNorm(5, 3), torch.randn(2, 3), torch.randn(2, 5, 8, 8)
    assert torch.allclose(layer(maps, style), layer(3 * maps + 1, style), atol=1e-4)
