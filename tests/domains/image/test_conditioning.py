"""Labels of every kind reach both players of every recipe that reads them, and are never ignored in silence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring import api
from sparring.core.adversarial import AdversarialGame
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe, named_recipes
from sparring.stage import unused_labels
from sparring.training.engine import seed_everything

torch.set_num_threads(1)

# The papers' own settings (biggan-128, …) are these networks, only larger.
SMALL = sorted(
    name
    for name, path in named_recipes().items()
    if path.parent.parent.name == "image" and not re.search(r"-\d+$", name)
)
NAMES = ("ant", "bee", "cat")
VECTORS = {
    "soft": torch.tensor([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0]]),
    "attributes": torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]),
    "values": torch.tensor([[0.0, 1.5, -1], [1, 0, 0.2], [-1, -0.5, 0.8], [0, -1, 0]]),
}
LABELS = {"classes": torch.tensor([0, 1, 2, 1]), **VECTORS}


def spec_of(kind: str) -> DataSpec:
    if kind == "none":
        return DataSpec((1, 8, 8), (), 4)
    rows = {"label_rows": VECTORS[kind].tolist()} if kind in VECTORS else {"label_counts": [1, 2, 1]}
    return DataSpec((1, 8, 8), NAMES, 4, {"label_kind": kind, **rows})


def recipe_of(name: str, *keys: str) -> Recipe:
    sizes = ["model.generator.width=8", "model.discriminator.width=8", "train.batch_size=4", "train.steps=10"]
    grown = ["model.growth.until=0", "model.growth.images=null"] if "growth" in load_recipe(name).model else []
    return api.resolve(load_recipe(name).override([*sizes, *grown, *keys]))


def conditional(name: str) -> Recipe | None:
    """The recipe with labels in use, None where it has no such thing."""
    recipe = recipe_of(name)
    if "conditional" not in recipe.model:
        return None
    return recipe if recipe.model["conditional"] else recipe_of(name, "model.conditional=true")


def build(recipe: Recipe, kind: str) -> Any:
    seed_everything(0)
    game = open_domain("image").build_game(recipe, spec_of(kind))
    with torch.no_grad():  # what starts at nothing would hide the label
        for parameter in game.parameters():
            if parameter.abs().max() < 1e-3:
                nn.init.normal_(parameter, std=0.2)
    return game.train()


def batch_of(label: Tensor) -> Batch:
    return Batch(data=torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1, label=label)


def distinct(*keys: str) -> list[str]:
    """One recipe for each game, way of conditioning and combination of these keys of `model`."""
    kinds: dict[str, str] = {}
    for name in SMALL:
        recipe = recipe_of(name)
        found = [recipe.game, recipe.model.get("conditional"), *(recipe.model.get(key) for key in keys)]
        own = [
            {k: v for k, v in each.items() if k in ("name", "condition")} if isinstance(each, dict) else each
            for each in found
        ]
        kinds.setdefault(str(own), name)
    return list(kinds.values())


READERS = [name for name in distinct("generator", "discriminator", "contrast") if conditional(name) is not None]


@pytest.mark.parametrize("form", ["numbers", "vectors"])
@pytest.mark.parametrize("name", READERS)
def test_labels_of_every_form_reach_both_players(name: str, form: str) -> None:
    recipe = conditional(name)
    assert recipe is not None
    # All vectors are the same to networks; a contrastive game has no use for values.
    vectors = "attributes" if recipe.game == "contrastive" else "values"
    kind = vectors if form == "vectors" else "classes"
    label = LABELS[kind]
    game = build(recipe, kind)
    assert game.reads_labels and list(game.conditions) == list(NAMES)
    other = label.roll(1, 0)

    def drawn(label: Tensor) -> Tensor:
        with torch.no_grad():
            batch: Tensor = game.generate(4, condition=label, rng=torch.Generator().manual_seed(0))["data"]
        return batch

    game.eval()
    assert not torch.equal(drawn(label), drawn(other)), "the generator ignores the label"

    if not isinstance(game, AdversarialGame):
        return
    game.train()
    turn = next(turn for turn in game.turns(0) if turn.player.startswith("discriminator"))
    fakes: list[Any] = []

    fakes, draw = [], game.draw
    codes = game.codes(4) if hasattr(game, "information") else None  # InfoGAN's, which its loss asks for
    game.draw = lambda batch: fakes[0] if fakes else fakes.append(draw(batch)) or fakes[0]
    state = {key: value.clone() for key, value in game.state_dict().items()}

    def judged(label: Tensor) -> float:
        game.load_state_dict(state)
        batch = batch_of(label)
        batch.memo["codes"] = codes
        seed_everything(0)
        total: float = game.loss(Turn(turn.player, turn.phase), batch, 0).total.item()
        return total

    judged(label)  # draws the fakes
    assert judged(label) == judged(label), "the comparison is of labels alone"
    assert judged(label) != judged(other), "the discriminator ignores the label"


@pytest.mark.parametrize("kind", ["classes", "attributes", "none"])
@pytest.mark.parametrize("name", distinct())
def test_what_a_recipe_does_not_read_is_said_and_what_it_lacks_is_refused(name: str, kind: str) -> None:
    recipe, spec = recipe_of(name), spec_of(kind)
    setting = recipe.model.get("conditional")
    if kind == "none" and setting is True:
        with pytest.raises(UserError, match=r"the data has none: .* or another recipe"):
            build(recipe, kind)
        return
    said = unused_labels(recipe, spec, build(recipe, kind))
    if kind == "none" or setting in (True, "auto"):
        assert not said
    else:
        assert said.startswith(f"the data has 3 {kind}, which the recipe")
        assert ("--set model.conditional=true" in said) == ("conditional" in recipe.model) and "\n" not in said


@pytest.mark.parametrize(
    ("kind", "told", "loss"),
    [
        ("classes", "class_accuracy", nn.functional.cross_entropy),
        ("soft", "class_accuracy", nn.functional.cross_entropy),
        ("attributes", "attribute_accuracy", nn.functional.binary_cross_entropy_with_logits),
        ("values", "value_r2", lambda told, label: 0.5 * (told - label).square().mean()),
    ],
)
def test_acgan_tells_each_kind_by_its_likelihood(kind: str, told: str, loss: Any) -> None:
    game = build(recipe_of("acgan"), kind).eval()
    batch = batch_of(LABELS[kind])
    losses = game.loss(Turn("discriminator", keep=True), batch, 0)
    assert told in losses.watch
    expected = sum(
        loss(game.classifier(game.look(side, None)[1]), LABELS[kind]) for side in (batch["data"], batch.memo["fake"])
    )
    assert torch.allclose(losses["class"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["contragan", "reacgan"])
def test_a_game_of_same_labels_refuses_values(name: str) -> None:
    with pytest.raises(UserError, match="values are never the same: train `cgan` or `acgan`"):
        build(recipe_of(name), "values")


def test_a_note_about_labels_is_part_of_what_a_conditional_recipe_says() -> None:
    spec = DataSpec((1, 8, 8), (), 4, {"label_note": "3 of 9 images lie in no sub-folder"})
    with pytest.raises(UserError, match="the data has none: 3 of 9 images lie in no sub-folder"):
        open_domain("image").build_game(recipe_of("cgan"), spec)


def test_fakes_of_attributes_are_drawn_as_the_data_has_them_together() -> None:
    game = build(recipe_of("cgan"), "attributes").eval()
    label = game.draw_labels(200, torch.Generator().manual_seed(0))
    rows = {tuple(row) for row in VECTORS["attributes"].tolist()}
    assert {tuple(row) for row in label.tolist()} == rows


def test_penalties_see_label_vectors_of_the_samples_that_they_see() -> None:
    """Half of the samples, and both sides in one pass: each sample keeps its own label."""
    keys = ("loss.penalties.r1={weight: 1.0, share: 0.5}", "loss.penalties.r2={weight: 1.0, share: 0.5}")
    game = build(recipe_of("default", *keys), "values")
    seen: list[tuple[int, torch.Size]] = []
    plain = game.discriminator.features
    game.discriminator.features = lambda x, label=None: seen.append((len(x), label.shape)) or plain(x, label)
    with torch.autocast("cpu", torch.bfloat16):  # so that penalties make passes of their own
        game.loss(Turn("discriminator"), batch_of(LABELS["values"]), 0).total.backward()
    assert len(seen) > 1 and all(shape == (count, 3) for count, shape in seen)
