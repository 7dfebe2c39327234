"""Instance norm whose gain and bias are a style: what of an image is not its content (AdaIN)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class AdaptiveInstanceNorm(nn.Module):
    """γ(s) · (x − μ(x)) / σ(x) + β(s), of maps x (N, channels, H, W) and vectors s (N, inputs), γ and β linear in s.

    μ and σ are of each sample and channel (Huang & Belongie 2017, eq. 8; with γ and β learnt from a code, Huang et al.
    2018, eq. 6).
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, bias = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x) * gain + bias
