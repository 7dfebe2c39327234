"""Recipes: validation, YAML, inheritance, overrides, errors that teach."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sparring.api import resolve
from sparring.errors import UserError
from sparring.recipe import Recipe, differences, load_recipe, merge, named_recipes

ALL = sorted(named_recipes())


def test_the_recipes_a_newcomer_asks_for_are_there() -> None:
    asked = [
        "gan",
        "dcgan",
        "lsgan",
        "wgan",
        "wgan-gp",
        "dragan",
        "sngan",
        "rgan",
        "cgan",
        "acgan",
        "infogan",
        "aae",
        "multires",
        "default",
    ]
    assert set(asked) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_resolved_recipe_survives_yaml(name: str) -> None:
    recipe = resolve(load_recipe(name))
    assert Recipe.parse(yaml.safe_load(recipe.to_yaml())) == recipe
    assert recipe.name == name
    assert recipe.summary and recipe.paper


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.stepz=3", r"unknown key 'train\.stepz' \(did you mean 'steps'\?\)"),
        ("trian.steps=3", r"unknown key 'trian' \(did you mean 'train'\?\)"),
        ("train.turns.discriminatr=3", r"did you mean 'discriminator'\?"),
        ("train.steps=-1", r"train\.steps: input should be greater than or equal to 0, not -1"),
        ("train.steps=soon", r"train\.steps: .*integer.*not 'soon'"),
        ("train.steps", r"write KEY=VALUE"),
        ("train.regularize.clip_weights=0", r"clip_weights: input should be greater than 0"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_nearest_key(key: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("dcgan").override([key])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown recipe 'dcgam' \(did you mean 'dcgan'\?\)"):
        load_recipe("dcgam")


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert load_recipe("dcgan").override(["train.optimizer.lr=1e-3"]).train.optimizer["lr"] == 1e-3


def test_extending_merges_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: lsgan\nloss: {options: {c: 0.5}}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.name == "mine"
    assert recipe.loss == {"name": "least_squares", "options": {"a": 0.0, "b": 1.0, "c": 0.5}}
    assert recipe.model["generator"]["name"] == "dcgan"


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1\n", "just text"])
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        load_recipe(tmp_path / "bad.yaml")
    assert "\n" not in str(caught.value)


def test_options_go_with_the_name_they_came_with() -> None:
    recipe = load_recipe("lsgan").override(["loss.name=hinge", "train.optimizer.name=sgd", "train.optimizer.lr=0.1"])
    assert "options" not in recipe.loss or recipe.loss["options"] == {}
    assert recipe.train.optimizer == {"name": "sgd", "lr": 0.1}
    assert merge({"x": {"y": {"name": "a", "k": 1}}}, {"x": {"y": {"name": "a", "j": 2}}}) == {
        "x": {"y": {"name": "a", "k": 1, "j": 2}}
    }


def test_a_players_own_optimiser_is_laid_over_the_common_one() -> None:
    optimizer, _ = load_recipe("infogan").player("generator")
    assert optimizer == {"name": "adam", "lr": 1e-3, "betas": [0.5, 0.999]}
    _, regularize = load_recipe("wgan").player("discriminator")
    assert regularize.clip_weights == 0.01
    assert load_recipe("wgan").player("generator")[1].clip_weights is None


def test_differences_name_each_key_once() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == [
        "a.c: 2 → 4",
        "d: 3 → None",
        "e: None → 5",
    ]


def test_foreign_code_in_a_recipe_is_recognised_and_hub_names_are_not() -> None:
    recipe = Recipe(
        name="mine", game="my.package:Game", data={"source": "hf:mnist"}, model={"generator": {"name": "nets:Big"}}
    )
    assert recipe.needs_foreign_code == ["my.package:Game", "nets:Big"]
    assert Recipe(name="mine", summary="note: this").needs_foreign_code == []
