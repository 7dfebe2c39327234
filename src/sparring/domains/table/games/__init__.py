"""The games that are played on tables, by the names that recipes use."""

from sparring.core.game import Game
from sparring.domains.table.games.copula import Copula
from sparring.domains.table.games.ctabgan import CTABGAN
from sparring.domains.table.games.ctgan import CTGAN
from sparring.domains.table.games.fair import FairGAN
from sparring.domains.table.games.medgan import MedGAN
from sparring.domains.table.games.tablegan import TableGAN

GAMES: dict[str, type[Game]] = {
    "ctgan": CTGAN,
    "ctabgan": CTABGAN,
    "tablegan": TableGAN,
    "medgan_records": MedGAN,
    "fair": FairGAN,
    "copula": Copula,
}
