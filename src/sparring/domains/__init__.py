"""Kinds of data. Each is a folder with the same rooms; none imports another."""

from __future__ import annotations

import importlib

from sparring.domains.domain import Domain
from sparring.errors import UserError, nearest

# Imported when used: each domain has libraries of its own, which may not be installed.
DOMAINS = {
    "image": "sparring.domains.image",
    "vector": "sparring.domains.vector",
    "translation": "sparring.domains.translation",
    "series": "sparring.domains.series",
    "table": "sparring.domains.table",
}


def open_domain(name: str) -> Domain:
    """The domain of that name. Raises UserError with the nearest name."""
    if name not in DOMAINS:
        raise UserError(f"unknown domain {name!r}{nearest(name, DOMAINS)}; there are {', '.join(DOMAINS)}")
    return importlib.import_module(DOMAINS[name]).DOMAIN


__all__ = ["DOMAINS", "Domain", "open_domain"]
