"""Networks between images, by the names that recipes use.

A generator is called with (channels of its inputs, shape (C, H, W) of an output) and its options, and maps inputs
(N, S, H, W) to images (N, C, H, W) in [-1, 1]. A discriminator is called alike, and maps images, and what they were made
from or None, to logits (N, …).
"""

from __future__ import annotations

from torch import nn

from sparring.domains.translation.networks.casnet import CasNet
from sparring.domains.translation.networks.enlarging import RRDBNet, SRResNet
from sparring.domains.translation.networks.filling import ContextEncoder, GatedNetwork, PartialUNet
from sparring.domains.translation.networks.hole_judges import FeaturePatchDiscriminator, GlobalLocalDiscriminator
from sparring.domains.translation.networks.lesion import LesionGenerator, RegionDiscriminator
from sparring.domains.translation.networks.patchgan import PatchDiscriminator
from sparring.domains.translation.networks.pix2pixhd import EnhancedGenerator
from sparring.domains.translation.networks.resnet import ResnetGenerator
from sparring.domains.translation.networks.spade import SpadeGenerator
from sparring.domains.translation.networks.stargan import StarDiscriminator, StarGenerator
from sparring.domains.translation.networks.styler import DeepDiscriminator, Styler
from sparring.domains.translation.networks.unet import UNetGenerator
from sparring.domains.translation.networks.vgg import VggDiscriminator

GENERATORS: dict[str, type[nn.Module]] = {
    "unet": UNetGenerator,
    "resnet": ResnetGenerator,
    "star": StarGenerator,
    "pix2pixhd": EnhancedGenerator,
    "spade": SpadeGenerator,
    "styler": Styler,
    "srresnet": SRResNet,
    "rrdb": RRDBNet,
    "context": ContextEncoder,
    "partial": PartialUNet,
    "gated": GatedNetwork,
    "casnet": CasNet,
    "lesion": LesionGenerator,
}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "patch": PatchDiscriminator,
    "region": RegionDiscriminator,
    "star": StarDiscriminator,
    "deep": DeepDiscriminator,
    "vgg": VggDiscriminator,
    "global_local": GlobalLocalDiscriminator,
    "feature_patch": FeaturePatchDiscriminator,
}
