"""Vectors: points in space, rows of features or measurements."""

from sparring.domains.vector.domain import VectorDomain

DOMAIN = VectorDomain()
