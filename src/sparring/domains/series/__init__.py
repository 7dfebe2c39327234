"""Series: windows of values over time, of one or several features."""

from sparring.domains.series.domain import SeriesDomain

DOMAIN = SeriesDomain()
