"""Metadata: a JSON file that says what the columns of a table are.

Two forms are read. That of SDV (https://docs.sdv.dev/sdv/concepts/metadata/metadata-json): `columns` by name, each with an
`sdtype` and what goes with it; one table, alone or under `tables`. And that of the benchmark of CTGAN (Xu et al. 2019):
`columns` as a list of `name` and `type`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparring.domains.table.columns import KINDS
from sparring.errors import UserError, nearest

TYPES = {
    **{kind: kind for kind in KINDS}, "numerical": "number", "continuous": "number", "datetime": "date", "categorical": "category",
    "id": "key",
}  # fmt: skip
"""What metadata calls a kind → what it is here."""


def read_metadata(source: str, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of columns, as `columns.fit_column` takes them, from a file. columns: of the data.

    Read are a column's type, `order` or `order_by`, `datetime_format` and `computer_representation`, and `primary_key`. Raises
    UserError for a file that is none, a type that is unknown, and a column that the data lack.
    """
    values = _parsed(source)
    given = values.get("columns")
    if isinstance(given, list):
        if strange := [each for each in given if not isinstance(each, dict) or "name" not in each]:
            raise UserError(f"{source}: {json.dumps(strange[0])[:80]} in `columns` has no name")
        given = {str(each["name"]): each for each in given}
    if not isinstance(given, dict):
        raise UserError(f"{source}: has no `columns`, which say what each column is")
    found: dict[str, dict[str, Any]] = {}
    for name, each in given.items():
        if name not in columns:
            raise UserError(f"{source}: names the column {name!r}, which the data have not{nearest(name, columns)}")
        if not isinstance(each, dict):
            raise UserError(f"{source}: column {name!r}: write {{'sdtype': …}}, not {json.dumps(each)[:60]}")
        found[name] = _options(source, name, each)
    keys = values.get("primary_key")
    for key in [keys] if isinstance(keys, str) else keys or []:
        if key not in columns:
            raise UserError(f"{source}: names the primary key {key!r}, which the data have not{nearest(key, columns)}")
    if isinstance(keys, str):
        found[keys] = {**found.get(keys, {}), "kind": "key"}
    return found


def _parsed(source: str) -> dict[str, Any]:
    path = Path(source).expanduser()
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"data.metadata={source}: no such file{nearest(path.name, there)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"data.metadata={source}: not a JSON file ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise UserError(f"data.metadata={source}: not metadata, which are a mapping with `columns`")
    tables = values.get("tables")
    if isinstance(tables, dict):
        if len(tables) != 1:
            raise UserError(f"{source}: is of {len(tables)} tables; a game is played on one: leave the others out")
        return next(iter(tables.values()))
    return values


def _options(source: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    word = given.get("sdtype", given.get("type"))
    if not isinstance(word, str) or word not in TYPES:
        hint = nearest(str(word), TYPES) or f"; there are {', '.join(TYPES)}"
        raise UserError(f"{source}: column {name!r} has the unknown type {word!r}{hint}")
    options: dict[str, Any] = {"kind": TYPES[word]}
    if given.get("order") is not None or given.get("order_by") is not None:
        # Without an order of their own, levels are sorted: what SDV calls numerical_value and alphabetical.
        options["kind"] = "ordinal"
        options["order"] = given.get("order")
    if word == "datetime" and given.get("datetime_format"):
        options["format"] = given["datetime_format"]
    if word == "numerical" and given.get("computer_representation") == "Float":
        options["kind"] = "continuous"
    return {key: value for key, value in options.items() if value is not None}
