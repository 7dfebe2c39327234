"""The games that are played between images, by the names that recipes use."""

from __future__ import annotations

from sparring.core.game import Game
from sparring.domains.translation.games.bicycle import BicycleGame
from sparring.domains.translation.games.colouring import ColouringGame
from sparring.domains.translation.games.contrastive import ContrastiveGame
from sparring.domains.translation.games.cycle import CycleGame
from sparring.domains.translation.games.inpainting import InpaintingGame
from sparring.domains.translation.games.lesion import LesionGame
from sparring.domains.translation.games.medgan import MedganGame
from sparring.domains.translation.games.munit import MunitGame
from sparring.domains.translation.games.paired import PairedGame
from sparring.domains.translation.games.pix2pixhd import EnhancedGame
from sparring.domains.translation.games.spade import SpadeGame
from sparring.domains.translation.games.star import StarGame
from sparring.domains.translation.games.style import StyleGame
from sparring.domains.translation.games.superresolution import SuperResolutionGame

GAMES: dict[str, type[Game]] = {
    "paired": PairedGame,
    "cycle": CycleGame,
    "contrastive": ContrastiveGame,
    "star": StarGame,
    "bicycle": BicycleGame,
    "munit": MunitGame,
    "medgan": MedganGame,
    "lesion": LesionGame,
    "pix2pixhd": EnhancedGame,
    "spade": SpadeGame,
    "style": StyleGame,
    "super_resolution": SuperResolutionGame,
    "inpainting": InpaintingGame,
    "colouring": ColouringGame,
}
