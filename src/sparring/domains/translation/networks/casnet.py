"""CasNet, the generator of MedGAN (Armanious et al. 2020, sec. 3.4): U-blocks one after another, each refining the last one's image."""

from __future__ import annotations

from torch import Tensor, nn

from sparring.domains.translation.networks.unet import UNetGenerator
from sparring.errors import UserError
from sparring.nn.layers import Norm, require_positive


class CasNet(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    blocks: U-blocks, each an encoder and a decoder with skips between them, trained end to end; the first makes an image,
    the others make a better one from it. Six in the paper. width, depth, norm, dropout: of each block, see `UNetGenerator`;
    dropout is left to training. residual: what a block makes is added to the image that it sees and the sum cut off at ±1, for
    inputs that are images of the same kind, such as those of a head that moved: the network begins with the input, and a short
    training on few pairs need not learn first to leave alone what is right.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, blocks: int = 6, width: int = 64, depth: int | None = None, norm: Norm = "instance", dropout: float = 0.0,
        residual: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(blocks=blocks)
        if residual and source != shape[0]:
            raise UserError(
                f"model.generator.residual: inputs have {source} channels and outputs {shape[0]}, so one cannot be added to the "
                "other: leave it out"
            )
        self.residual = residual
        self.blocks = nn.Sequential(
            *(
                UNetGenerator(seen, shape, width=width, depth=depth, norm=norm, dropout=dropout, noise=False)
                for seen in [source, *[shape[0]] * (blocks - 1)]
            )
        )
        self.stride = self.blocks[0].stride

    def forward(self, source: Tensor) -> Tensor:
        image = source
        for block in self.blocks:
            image = (image + block(image)).clamp(-1, 1) if self.residual else block(image)
        return image
