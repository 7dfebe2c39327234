"""The games that are played between images, by the names that recipes use."""

from __future__ import annotations

from sparring.core.game import Game
from sparring.domains.translation.games.paired import PairedGame

GAMES: dict[str, type[Game]] = {"paired": PairedGame}
