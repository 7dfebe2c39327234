"""The networks that games on series are made of."""

from sparring.domains.series.networks.recurrent import Cell, Recurrent

__all__ = ["Cell", "Recurrent"]
