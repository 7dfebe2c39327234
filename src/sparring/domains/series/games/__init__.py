"""The games that are played on series, by the names that recipes use."""

from sparring.core.game import Game
from sparring.domains.series.games.crnn import CRNN
from sparring.domains.series.games.forecast import Forecast
from sparring.domains.series.games.quantgan import QuantGAN
from sparring.domains.series.games.rcgan import RCGAN
from sparring.domains.series.games.sigwgan import SigWGAN
from sparring.domains.series.games.steady import Steady
from sparring.domains.series.games.timegan import TimeGAN

GAMES: dict[str, type[Game]] = {
    "timegan": TimeGAN,
    "rcgan": RCGAN,
    "steady": Steady,
    "c-rnn-gan": CRNN,
    "forecast": Forecast,
    "quantgan": QuantGAN,
    "sigwgan": SigWGAN,
}
