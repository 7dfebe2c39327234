"""Networks between images, by the names that recipes use.

A generator is called with (channels of its inputs, shape (C, H, W) of an output) and its options, and maps inputs
(N, S, H, W) to images (N, C, H, W) in [-1, 1]. A discriminator is called alike, and maps images, and what they were made
from or None, to logits (N, …).
"""

from __future__ import annotations

from torch import nn

from sparring.domains.translation.networks.patchgan import PatchDiscriminator
from sparring.domains.translation.networks.resnet import ResnetGenerator
from sparring.domains.translation.networks.unet import UNetGenerator

GENERATORS: dict[str, type[nn.Module]] = {"unet": UNetGenerator, "resnet": ResnetGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {"patch": PatchDiscriminator}
