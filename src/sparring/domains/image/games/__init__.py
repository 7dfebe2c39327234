"""The games that are played on images, by the names that recipes use.

The plain one is `core.adversarial` with networks for images; the others add a third interest to the two players'.
"""

from __future__ import annotations

from sparring.core.game import Game
from sparring.domains.image.games.adversarial import ImageGame
from sparring.domains.image.games.alias_free import AliasFreeGame
from sparring.domains.image.games.autoencoder import AdversarialAutoencoder
from sparring.domains.image.games.auxiliary_classifier import AuxiliaryClassifierGame
from sparring.domains.image.games.contrastive import ContrastiveGame
from sparring.domains.image.games.energy import EnergyGame, EquilibriumGame
from sparring.domains.image.games.growing import GrowingGame
from sparring.domains.image.games.information import InformationGame
from sparring.domains.image.games.multiscale import LaplacianGame, MultiscaleGame
from sparring.domains.image.games.projected import ProjectedGame
from sparring.domains.image.games.selfsupervised import SelfSupervisedGame
from sparring.domains.image.games.style import StyledGame

GAMES: dict[str, type[Game]] = {
    "adversarial": ImageGame,
    "auxiliary_classifier": AuxiliaryClassifierGame,
    "contrastive": ContrastiveGame,
    "information": InformationGame,
    "styled": StyledGame,
    "alias_free": AliasFreeGame,
    "energy": EnergyGame,
    "equilibrium": EquilibriumGame,
    "self_supervised": SelfSupervisedGame,
    "projected": ProjectedGame,
    "growing": GrowingGame,
    "multiscale": MultiscaleGame,
    "laplacian": LaplacianGame,
    "adversarial_autoencoder": AdversarialAutoencoder,
}
