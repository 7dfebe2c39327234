"""Networks by name: what a recipe's `model` section says becomes modules, initialised and normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sparring.core.initialize import INITIALIZERS, initialize
from sparring.core.regularize import spectral_norm
from sparring.errors import UserError
from sparring.options import call, choose, resolve_named

Table = Mapping[str, type[nn.Module]]


def build_network(
    role: str,
    table: Table,
    spec: Mapping[str, Any],
    *args: Any,
    initializer: Mapping[str, Any],
    spectrally_normalised: Sequence[str] = (),
) -> nn.Module:
    """The network that `spec` names in `table`, called with `args` and its own options.

    role: its key in the section, for messages; in `spectrally_normalised` where its layers are to be. Raises UserError.
    """
    own = dict(spec)
    name = own.pop("name", None)
    if name is None:
        raise UserError(f"model.{role}.name is missing; there are {', '.join(table)}")
    network: nn.Module = call(choose(table, name, what=role), own, *args, where=f"model.{role}")
    initialize(network, initializer)
    return spectral_norm(network) if role in spectrally_normalised else network


def resolve_networks(section: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, Any]:
    """A validated `model` section with the options of its networks, by role, and of its initialiser filled in. Raises UserError."""
    plain = dict(section)
    for role, table in tables.items():
        plain[role] = resolve_named(table, plain[role], what=role, where=f"model.{role}")
    if plain["initialize"]:
        where = "model.initialize"
        plain["initialize"] = resolve_named(INITIALIZERS, plain["initialize"], what="initialiser", where=where)
    return plain
