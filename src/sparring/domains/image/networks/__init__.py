"""The networks that make and judge images, by the names that recipes use."""

from __future__ import annotations

from torch import nn

from sparring.domains.image.networks.autoencoder import BeganDiscriminator, DcganAutoencoder
from sparring.domains.image.networks.began import BeganGenerator
from sparring.domains.image.networks.biggan import BigganDiscriminator, BigganGenerator
from sparring.domains.image.networks.dcgan import DcganDiscriminator, DcganGenerator
from sparring.domains.image.networks.fastgan import FastganDiscriminator, FastganGenerator
from sparring.domains.image.networks.lapgan import LapganDiscriminator, LapganGenerator
from sparring.domains.image.networks.mlp import MlpDiscriminator, MlpGenerator
from sparring.domains.image.networks.msg import MsgDiscriminator, MsgGenerator
from sparring.domains.image.networks.multires import MultiresDiscriminator, MultiresGenerator
from sparring.domains.image.networks.progan import ProganDiscriminator, ProganGenerator
from sparring.domains.image.networks.projected import ProjectedDiscriminator
from sparring.domains.image.networks.resnet import ResnetDiscriminator, ResnetGenerator
from sparring.domains.image.networks.sagan import SaganDiscriminator, SaganGenerator
from sparring.domains.image.networks.stylegan2 import Stylegan2Discriminator, Stylegan2Generator
from sparring.domains.image.networks.stylegan3 import Stylegan3Generator

GENERATORS: dict[str, type[nn.Module]] = {
    "mlp": MlpGenerator,
    "dcgan": DcganGenerator,
    "resnet": ResnetGenerator,
    "began": BeganGenerator,
    "fastgan": FastganGenerator,
    "multires": MultiresGenerator,
    "stylegan2": Stylegan2Generator,
    "stylegan3": Stylegan3Generator,
    "progan": ProganGenerator,
    "msg": MsgGenerator,
    "lapgan": LapganGenerator,
    "sagan": SaganGenerator,
    "biggan": BigganGenerator,
}

DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "mlp": MlpDiscriminator,
    "dcgan": DcganDiscriminator,
    "resnet": ResnetDiscriminator,
    "dcgan_autoencoder": DcganAutoencoder,
    "began": BeganDiscriminator,
    "fastgan": FastganDiscriminator,
    "projected": ProjectedDiscriminator,
    "multires": MultiresDiscriminator,
    "stylegan2": Stylegan2Discriminator,
    "progan": ProganDiscriminator,
    "msg": MsgDiscriminator,
    "lapgan": LapganDiscriminator,
    "sagan": SaganDiscriminator,
    "biggan": BigganDiscriminator,
}
