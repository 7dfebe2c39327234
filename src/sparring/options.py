"""Options by name: a mapping from a recipe becomes a validated call of the function or class it names.

The keyword arguments of a loss, a penalty or a network *are* its options: their names, types and defaults are read
from the signature, so adding one is adding an argument.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import pydantic

from sparring.errors import UserError, nearest


def choose(table: Mapping[str, Any], name: str, *, what: str) -> Any:
    """The entry `name` of `table`, or, for `module:Name`, that attribute of that module.

    Foreign code runs here, so callers must have made sure that the user named it on purpose.
    Raises UserError with the nearest known name.
    """
    name = str(name)  # a slip in a recipe's YAML may be a number or a list
    if name in table:
        return table[name]
    if ":" in name:
        return load_object(name, what=what)
    raise UserError(f"unknown {what} {name!r}{nearest(name, table)}; there are {', '.join(sorted(table))}")


def load_object(reference: str, *, what: str) -> Any:
    """Import `module:Name`. Raises UserError where it cannot be found."""
    if not is_reference(reference):
        raise UserError(f"cannot load {what} {reference!r}: write module:Name")
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot load {what} {reference!r}: {error}") from error


def is_reference(name: str) -> bool:
    """Whether a name is `module:Name`, which is all that `load_object` imports: what asks for trust must ask of no less."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def resolve(function: Callable[..., Any], options: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Validate `options` against the keyword-only arguments of `function` and fill in its defaults.

    where: the recipe key that holds the options, for messages.
    Raises UserError for an unknown key (naming the nearest), a missing one or a wrong type.
    """
    return validate(_model(function), options, where=where)


def call(function: Callable[..., Any], options: Mapping[str, Any], *args: Any, where: str, **given: Any) -> Any:
    """Call `function(*args, **given, **options)`, where the user's `options` have been validated first."""
    return function(*args, **given, **resolve(function, options, where=where))


def resolve_named(
    table: Mapping[str, Any], spec: Mapping[str, Any], *, what: str, where: str, beside: Iterable[str] = ()
) -> dict[str, Any]:
    """`{"name": …, options}` with the options validated and the defaults of what it names filled in.

    beside: keys that belong to the caller and are left as they are. Raises UserError.
    """
    name = spec.get("name")
    if name is None:
        raise UserError(f"{where}.name is missing; there are {', '.join(sorted(table))}")
    kept = {key: spec[key] for key in beside if key in spec}
    own = {key: value for key, value in spec.items() if key != "name" and key not in kept}
    return {"name": name, **resolve(choose(table, name, what=what), own, where=where), **kept}


def validate(model: type[pydantic.BaseModel], values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Validate `values` against a pydantic model and return them as plain data, one line of error otherwise."""
    try:
        return model.model_validate(dict(values)).model_dump()
    except pydantic.ValidationError as error:
        raise UserError(explain(error, model, where)) from error


def explain(error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str) -> str:
    """The first problem of a validation as one line: the full key, what is wrong, the nearest known key."""
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in [where, *location] if part)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        hint = nearest(location[-1], known) or (f"; known are {', '.join(known)}" if known else "; it takes no options")
        return f"unknown key {key!r}{hint}"
    if problem["type"] == "missing":
        return f"{key!r} is missing: give it a value"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}, not {problem['input']!r}"


def _known_keys(model: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    """The field names of the record that `path` leads to inside `model`."""
    current: type[pydantic.BaseModel] = model
    for part in path:
        field = current.model_fields.get(part)
        inner = _record_in(field.annotation) if field else None
        if inner is None:
            # A key of a mapping of records (`penalties.r1`): the record is the mapping's value, already `current`.
            continue
        current = inner
    return sorted(current.model_fields)


def _record_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    """The pydantic record inside an annotation such as `dict[str, Record] | None`."""
    if inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _record_in(argument)
        if found:
            return found
    return None


@cache
def _model(function: Callable[..., Any]) -> type[pydantic.BaseModel]:
    """A pydantic record of the keyword-only arguments of `function`, less those the caller supplies (`spec`)."""
    target = function.__init__ if inspect.isclass(function) else function
    hints = typing.get_type_hints(target)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return pydantic.create_model(getattr(function, "__name__", "Options"), __config__=config, **fields)
