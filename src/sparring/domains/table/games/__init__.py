"""The games that are played on tables, by the names that recipes use."""

from sparring.core.game import Game
from sparring.domains.table.games.copula import Copula
from sparring.domains.table.games.ctgan import CTGAN

GAMES: dict[str, type[Game]] = {"ctgan": CTGAN, "copula": Copula}
