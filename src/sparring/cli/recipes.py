"""`recipes`: what there is to train."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sparring.cli.words import Json
from sparring.terminal import print_json


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A recipe to show whole.")] = None,
    json: Json = False,
) -> None:
    """List the recipes, or show one fully resolved as YAML."""
    from sparring.api import resolve
    from sparring.recipe import load_recipe, named_recipes

    if name is not None:
        recipe = resolve(load_recipe(name))
        if json:
            print_json(recipe.plain())
        else:
            print(recipe.to_yaml(), end="")
        return
    found = [load_recipe(each) for each in named_recipes()]
    if json:
        print_json({each.name: {"domain": each.domain, "summary": each.summary, "paper": each.paper} for each in found})
        return
    table = Table("recipe", "domain", "what", "paper")
    for each in found:
        table.add_row(each.name, each.domain, each.summary, each.paper)
    Console().print(table)
