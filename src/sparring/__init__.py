"""Sparring: train, measure, diagnose, tune and apply generative adversarial networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sparring.api import (
        by_class,
        check_data,
        compare,
        directions,
        evaluate,
        export,
        finetune,
        generate,
        interpolate,
        load,
        mix,
        prepare_data,
        project,
        resume,
        train,
        translate,
        walk,
    )
    from sparring.errors import Interrupted, UserError
    from sparring.recipe import Recipe, load_recipe, named_recipes

_HOMES = {
    "api": (
        "train",
        "resume",
        "finetune",
        "load",
        "generate",
        "translate",
        "by_class",
        "interpolate",
        "mix",
        "walk",
        "directions",
        "project",
        "evaluate",
        "compare",
        "export",
        "check_data",
        "prepare_data",
    ),
    "errors": ("UserError", "Interrupted"),
    "recipe": ("Recipe", "load_recipe", "named_recipes"),
}
__all__ = [
    "Interrupted",
    "Recipe",
    "UserError",
    "by_class",
    "check_data",
    "compare",
    "directions",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "interpolate",
    "load",
    "load_recipe",
    "mix",
    "named_recipes",
    "prepare_data",
    "project",
    "resume",
    "train",
    "translate",
    "walk",
]


def __getattr__(name: str) -> Any:
    """Names arrive when they are asked for: the command line's `--help` must not wait for torch."""
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sparring.{home}"), name)
    raise AttributeError(f"module 'sparring' has no attribute {name!r}")
