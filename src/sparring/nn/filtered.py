"""3×3 convolutions from one rung of a `ladder` to the next, low-pass filtered on the way (Karras et al. 2019, sec. 2.2; 2020).

Larger: the transposed convolution first, whose checkerboard the filter takes away. Smaller: the filter first, so that
nothing is left that the larger steps would alias. Both orders work with nine products for each pair of values, where
filter and convolution as one kernel would need 36.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from sparring.nn.equalised import EqualisedConv2d
from sparring.nn.filters import Filter, binomial, upfirdn2d
from sparring.nn.resample import Size


def convolve_larger(x: Tensor, weight: Tensor, size: Size, taps: Filter) -> Tensor:
    """Maps (N, I, H, W) → (N, O, *size): each side doubles (an odd one loses its last value) or stays.

    weight: (O, I, 3, 3). taps: a separable filter of 4 taps; sides that stay are not filtered.
    """
    grows = [after > before for before, after in zip(x.shape[2:], size, strict=True)]
    if not any(grows):
        return F.conv2d(x, weight, padding=1)
    # A transposed convolution applies the kernel the other way round than a plain one.
    kernel = weight.transpose(0, 1).flip(2, 3)
    x = F.conv_transpose2d(x, kernel, stride=[1 + grow for grow in grows], padding=[1 - grow for grow in grows])
    return _filtered(x, taps, grows, 1, 2.0)[..., : size[0], : size[1]]


def convolve_smaller(x: Tensor, weight: Tensor, size: Size, taps: Filter) -> Tensor:
    """Maps (N, I, H, W) → (N, O, *size): each side halves (rounded up) or stays. Else as `convolve_larger`."""
    shrinks = [after < before for before, after in zip(x.shape[2:], size, strict=True)]
    if not any(shrinks):
        return F.conv2d(x, weight, padding=1)
    odd = [side % 2 for side in x.shape[2:]]
    x = _filtered(x, taps, shrinks, 2, 1.0, odd)
    return F.conv2d(x, weight, stride=[1 + shrink for shrink in shrinks], padding=[1 - shrink for shrink in shrinks])


def _filtered(
    x: Tensor, taps: Filter, axes: list[bool], pad: int, gain: float, more: list[int] | None = None
) -> Tensor:
    """Filtered along the axes that change, `pad` zeros on both sides and `more` behind; gain: for each of them."""
    more = more or [0, 0]
    top, left = (pad if axis else 0 for axis in axes)
    padding = (top, top + more[0] * axes[0], left, left + more[1] * axes[1])
    if not all(axes):
        taps = taps[:, None] if axes[0] else taps[None, :]
    return upfirdn2d(x, taps, padding=padding, gain=gain ** sum(axes))


class ShrinkingConv2d(EqualisedConv2d):
    """Maps (N, inputs, H, W) → (N, outputs, *size), at most as large: filter and convolution, with equalised learning rate."""

    taps: Tensor

    def __init__(self, inputs: int, outputs: int, size: Size) -> None:
        super().__init__(inputs, outputs, 3)
        self.size = size
        self.register_buffer("taps", binomial(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = convolve_smaller(x, self.weight * self.scale, self.size, self.taps)
        return y + self.bias.to(y.dtype)[:, None, None] if self.bias is not None else y
