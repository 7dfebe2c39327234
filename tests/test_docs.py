"""The documents say what the package does: commands parse, overrides build, tables hold every key and its default."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from pydantic_core import PydanticUndefined

from sparring import api, cli
from sparring.core.adversarial import LossOptions
from sparring.core.game import Batch, DataSpec
from sparring.core.initialize import INITIALIZERS
from sparring.core.losses import LOSSES, keywords
from sparring.core.penalties import PENALTIES
from sparring.core.schedules import SCHEDULES, learning_rate
from sparring.data.archive import ARCHIVES
from sparring.data.augment import build as build_augmentation
from sparring.data.checks import duplicates, findings, labels, outliers, scan, shape
from sparring.data.decode import EXTENSIONS
from sparring.domains import open_domain
from sparring.domains.image.data import ImageOptions
from sparring.domains.image.games.adversarial import ModelOptions
from sparring.domains.image.games.alias_free import AliasFreeOptions
from sparring.domains.image.games.autoencoder import AutoencoderOptions, CodeLoss
from sparring.domains.image.games.auxiliary_classifier import AuxiliaryClassifierOptions
from sparring.domains.image.games.contrastive import ContrastiveOptions
from sparring.domains.image.games.energy import EnergyOptions, EquilibriumOptions
from sparring.domains.image.games.growing import GrowingOptions
from sparring.domains.image.games.information import InformationOptions
from sparring.domains.image.games.selfsupervised import SelfSupervisedOptions
from sparring.domains.image.games.style import StyledOptions
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.series.data import SeriesOptions
from sparring.domains.table.columns import Column
from sparring.domains.table.data import TableOptions
from sparring.domains.translation.data import TranslationOptions
from sparring.metrics.meter import measure_of
from sparring.nn.augmentation import AUGMENTATIONS
from sparring.nn.mlp import VectorDiscriminator
from sparring.recipe import Evaluate, Machine, Player, Private, Recipe, Section, Train, load_recipe, named_recipes
from sparring.run import Run
from sparring.training import checkpoint
from sparring.training.optimizers import OPTIMIZERS, build_optimizer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
GALLERY = ROOT / "docs" / "gallery.md"
FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """`--set` assignments as a page shows them, with the recipe that they are shown with."""

    page: str
    recipe: str
    assignments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.page, self.recipe, *self.assignments])


def command_lines(page: str) -> list[str]:
    """The `sparring …` lines of fenced blocks and inline code."""
    blocks = [line.strip() for _, block in FENCE.findall(TEXT[page]) for line in block.splitlines()]
    return [line for line in [*blocks, *spans(page)] if line.startswith("sparring ")]


def spans(page: str) -> list[str]:
    """Inline code."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXT[page]))


def words(line: str) -> list[str]:
    """A command line as its arguments; placeholders as such a word would be: `[RECIPE]` is RECIPE, `N` a number."""
    plain = re.sub(r"\s#.*", "", line)
    return ["1" if word == "N" else re.sub(r"^\[([A-Z]+)\]$", r"\1", word) for word in shlex.split(plain)][1:]


def assignments(arguments: list[str]) -> tuple[str, ...]:
    """What follows each `--set`, placeholders left out."""
    values = [after for word, after in itertools.pairwise(arguments) if word == "--set"]
    return tuple(value for value in values if value != "KEY=VALUE" and "…" not in value)


def recipe_of(arguments: list[str]) -> str:
    """The recipe that a command is about; the default one where none is named."""
    subject = arguments[1] if len(arguments) > 1 and not arguments[1].startswith("-") else "default"
    if arguments[0] == "train":
        return subject
    run = re.fullmatch(r"runs/(.+)-\d+", subject)
    return run[1] if run else "default"


def shown() -> Iterator[Shown]:
    for page in TEXT:
        for line in command_lines(page):
            if found := assignments(words(line)):
                yield Shown(page, recipe_of(words(line)), found)
        for span in spans(page):
            if span.startswith("--set ") and (found := assignments(["", *words(f"sparring {span}")])):
                yield Shown(page, "default", found)


def recipe_files() -> dict[str, str]:
    """The recipes that pages show whole: YAML blocks that begin with their file's name."""
    blocks = [block for text in TEXT.values() for kind, block in FENCE.findall(text) if kind == "yaml"]
    named = ((re.match(r"# (\S+\.yaml)\n", block), block) for block in blocks)
    return {match[1]: block for match, block in named if match}


COMMANDS = sorted({(page, line) for page in TEXT for line in command_lines(page)})
SHOWN = sorted(dict.fromkeys(shown()), key=str)


def test_the_pages_show_commands_and_overrides() -> None:
    """So that a slip in the patterns above cannot make the tests below pass by finding nothing."""
    assert len(COMMANDS) > 50
    assert len(SHOWN) > 35
    assert {"mine.yaml", "faces.yaml"} <= set(recipe_files())


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_parses(page: str, line: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    arguments = words(line)
    context = command.make_context("sparring", list(arguments))
    while hasattr(command, "commands"):
        assert arguments[0] in command.commands, f"there is no command {arguments[0]!r}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
        if not arguments:
            return  # `sparring resume` in a sentence is the name of a command
        # A group parses what is its own and leaves the rest; a command parses everything, and nothing is run.
        context = command.make_context(command.name, list(arguments), parent=context)


@pytest.mark.parametrize("example", SHOWN, ids=str)
def test_every_override_builds_a_game_that_can_be_played(example: Shown, tmp_path: Path) -> None:
    recipe = find_recipe(example.recipe, tmp_path)
    whole = {"series": ["model.width=8"]}  # kinds of data whose networks have one width
    narrow = whole.get(recipe.domain, [f"model.{role}.width=8" for role in ("generator", "discriminator")])
    play(recipe.override(narrow), example.assignments)


@pytest.mark.parametrize("name", sorted(recipe_files()))
def test_every_recipe_file_loads(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name, tmp_path)
    if not recipe.needs_foreign_code:
        play(recipe, ())


def find_recipe(reference: str, folder: Path) -> Recipe:
    """A packaged recipe, or one that a page shows."""
    files = recipe_files()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return load_recipe(folder / reference if reference in files else reference)


def play(recipe: Recipe, overrides: tuple[str, ...]) -> None:
    """Build everything that the keys are about as for digits, and look at each turn's loss."""
    recipe = api.resolve(recipe.override(overrides))
    domain = open_domain(recipe.domain)
    spec, batch = {"translation": as_pairs, "series": as_windows, "table": as_rows}.get(recipe.domain, as_digits)(
        recipe
    )
    torch.manual_seed(0)
    game = domain.build_game(recipe, spec)
    for player, module in game.players().items():
        build_optimizer(player, list(module.parameters()), recipe.player(player)[0])
    assert set(recipe.train.players) <= set(game.players())
    assert learning_rate(recipe.train.schedule, 0, recipe.train.steps) > 0
    if recipe.evaluate.metric:
        measure_of(domain.measures, recipe.evaluate.metric)
    for turn in [*game.turns(0), *game.turns(recipe.train.steps or 1000)]:
        assert torch.isfinite(game.loss(turn, batch, 0).total)


def as_digits(recipe: Recipe) -> tuple[DataSpec, Batch]:
    """What data of the recipe would be like if they were digits, and some."""
    options = ImageOptions(**recipe.data)
    height, width = options.size if isinstance(options.size, tuple) else (options.size or 8, options.size or 8)
    channels = options.channels or 1
    classes = tuple(options.classes or map(str, range(10)))
    spec = DataSpec((channels, height, width), classes, 1797, {"label_counts": [1] * len(classes)})
    build_augmentation(options.augment, (channels, height, width))
    return spec, Batch(data=torch.rand(4, *spec.shape) * 2 - 1, label=torch.arange(4) % len(classes))


def as_pairs(recipe: Recipe) -> tuple[DataSpec, Batch]:
    """Colour photographs and their partners, or photographs alone where the recipe makes its inputs from them."""
    options = TranslationOptions(**recipe.data)
    height, width = options.size if isinstance(options.size, tuple) else (options.size or 64, options.size or 64)
    inputs = None if options.layout == "single" else {"kind": "image", "channels": 3}
    spec = DataSpec((3, height, width), (), 100, {"paired": inputs is not None, "input": inputs})
    data, source = (torch.rand(2, *spec.shape) * 2 - 1 for _ in range(2))
    return spec, Batch(data=data, **({} if inputs is None else {"source": source}))


def as_windows(recipe: Recipe) -> tuple[DataSpec, Batch]:
    """Windows of three features."""
    spec = DataSpec((SeriesOptions(**recipe.data).window, 3), (), 100, {})
    return spec, Batch(data=torch.rand(4, *spec.shape))


def as_rows(recipe: Recipe) -> tuple[DataSpec, Batch]:
    """Rows of a number, of a category as the recipe wishes it, and of a protected one where it names one."""
    options = TableOptions(**recipe.data)
    levels = ["a", recipe.model.get("desired") or "b"]
    columns = [
        Column(
            "amount", "continuous", "float64", 100, counts=[100], centres=[0.0], deviations=[1.0], low=-4.0, high=4.0
        ),
        Column("kind", "category", "object", 100, levels=levels, counts=[60, 40]),
    ]
    if options.protected:
        columns.append(Column(options.protected, "category", "object", 100, levels=["f", "m"], counts=[50, 50]))
    hot = [torch.nn.functional.one_hot(torch.arange(20) // each % 2, 2) for each in range(1, len(columns))]
    rows = torch.cat([torch.rand(20, 1) * 2 - 1, torch.ones(20, 1), *hot], 1)
    extra = {"columns": [column.plain() for column in columns], "target": "kind", "protected": options.protected}
    return DataSpec((rows.shape[1],), (), 100, extra), Batch(data=rows, asked=torch.arange(20) % 2)


def test_the_readme_lists_every_packaged_recipe_and_no_other() -> None:
    section = TEXT["README.md"].partition("\n## Recipes\n")[2].partition("\n## ")[0]
    listed = [row[0] for header, rows in tables(section) if header[0] == "recipe" for row in rows]
    assert sorted(listed) == sorted(named_recipes())


LINKS = [(page, link) for page in TEXT for link in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]) if "://" not in link]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_every_link_leads_somewhere(page: str, link: str) -> None:
    target = ((ROOT / page).parent / link.partition("#")[0]).resolve()
    if not GALLERY.exists() and (target == GALLERY or target.is_relative_to(ROOT / "docs" / "gallery")):
        pytest.skip("docs/gallery.md has not been drawn yet")
    assert target.exists(), f"{page} links to {link}, which is not there"


def tables(text: str) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """The (header, rows) of every Markdown table, backticks taken off."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        lines = [
            tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")) for line in block.splitlines()
        ]
        found.append((lines[0], lines[2:]))
    return found


def show(value: object) -> str:
    """A default as the tables write it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return (
        str(value)
        if isinstance(value, str)
        else yaml.safe_dump(plain(value), default_flow_style=True, sort_keys=False, width=999).split("\n")[0]
    )


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def keys_of(model: type[Section], prefix: str) -> set[tuple[str, str]]:
    """(dotted key, default) of every key of a record and of the records in it."""
    found = set()
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Section):
            found |= keys_of(type(default), f"{prefix}.{name}")
        else:
            assert default is not PydanticUndefined
            found.add((f"{prefix}.{name}", show(default)))
    return found


KEYS = {
    "train": keys_of(Train, "train") | keys_of(Player, "train.players.NAME"),
    "evaluate": keys_of(Evaluate, "evaluate"),
    "machine": keys_of(Machine, "machine"),
    "private": keys_of(Private, "private"),
    "data": keys_of(ImageOptions, "data"),
    "model": set().union(*(
        keys_of(model, "model") for model in (EnergyOptions, EquilibriumOptions, SelfSupervisedOptions, ModelOptions, AuxiliaryClassifierOptions, ContrastiveOptions, InformationOptions, GrowingOptions, StyledOptions, AliasFreeOptions, AutoencoderOptions)
    )),
    "loss": keys_of(LossOptions, "loss") | keys_of(CodeLoss, "loss"),
}  # fmt: skip


@pytest.mark.parametrize("section", KEYS)
def test_the_table_of_a_section_has_every_key_with_its_default_and_no_other(section: str) -> None:
    rows = [
        row
        for header, rows in tables(TEXT["docs/recipes.md"])
        if header == ("key", "default", "meaning")
        for row in rows
    ]
    listed = {(key, default) for key, default, _ in rows if key.startswith(f"{section}.")}
    assert listed == KEYS[section]
    assert all(meaning for *_, meaning in rows)


def options_of(*functions: Callable[..., Any]) -> str:
    """The options cell of a thing that recipes name: each option with its default, or `needed`."""
    found: dict[str, str] = {}
    for function in functions:
        defaults = (function.__init__ if isinstance(function, type) else function).__kwdefaults__ or {}
        for name in keywords(function):
            found[name] = show(plain(defaults[name])) if name in defaults else "needed"
    return ", ".join(f"{name} {default}" for name, default in found.items()) or "none"


NAMED: dict[str, Mapping[str, str]] = {
    "Optimisers": {name: options_of(each) for name, each in OPTIMIZERS.items()},
    "Schedules": {name: options_of(each) for name, each in SCHEDULES.items()},
    "Generators": {name: options_of(each) for name, each in GENERATORS.items()},
    "Discriminators": {name: options_of(each) for name, each in DISCRIMINATORS.items()},
    "Initialisers": {name: options_of(each) for name, each in INITIALIZERS.items()},
    "Losses": {name: options_of(each.discriminator, each.generator) for name, each in LOSSES.items()},
    "Augmentation of both sides": {name: options_of(each) for name, each in AUGMENTATIONS.items()},
    "Penalties": {name: options_of(each) for name, each in PENALTIES.items()},
}


@pytest.mark.parametrize("heading", NAMED)
def test_the_table_of_named_things_has_every_one_with_its_options(heading: str) -> None:
    section = TEXT["docs/recipes.md"].partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    (rows,) = (rows for header, rows in tables(section) if header[:2] == ("name", "options"))
    assert {name: options for name, options, _ in rows} == NAMED[heading]


def test_every_option_of_a_network_is_explained() -> None:
    (rows,) = (rows for header, rows in tables(TEXT["docs/recipes.md"]) if header == ("option", "meaning"))
    explained = {option for names, _ in rows for option in names.split(", ")}
    assert explained == {key for each in (*GENERATORS.values(), *DISCRIMINATORS.values()) for key in keywords(each)}


def test_the_judge_of_codes_has_the_options_that_the_page_says() -> None:
    (row,) = (row for _, rows in tables(TEXT["docs/recipes.md"]) for row in rows if row[0] == "model.codes")
    assert row[2].endswith(options_of(VectorDiscriminator))


def test_the_table_of_findings_has_every_kind_and_its_threshold() -> None:
    (rows,) = (rows for header, rows in tables(TEXT["docs/data.md"]) if header[:2] == ("kind", "criterion"))
    assert tuple(row[0] for row in rows) == findings.KINDS
    criteria = {row[0]: row[1] for row in rows}
    assert f"below {scan.BLANK_SPREAD:g} of 255" in criteria["blank"]
    assert f"at most {duplicates.MAXIMUM_DISTANCE:g} RMS" in criteria["near_duplicate"]
    assert f"above {outliers.ROBUST_Z:g}" in criteria["outlier"]
    assert f"at most {outliers.LARGEST_SHARE:.0%}".replace("%", " %") in criteria["outlier"]
    assert f"at least {100 * shape.CLEAR_MAJORITY:g} %" in criteria["odd_size"]
    assert f"less than {100 * labels.LOWEST_AGREEMENT:g} %" in TEXT["docs/data.md"]
    assert f"{labels.FEWEST_SAMPLES} images a class" in TEXT["docs/data.md"]


def test_the_page_of_data_names_every_ending_that_is_read() -> None:
    for ending in (*EXTENSIONS, *ARCHIVES):
        assert f"`{ending}`" in TEXT["docs/data.md"], ending


def test_the_page_of_runs_names_everything_in_a_run_folder() -> None:
    run = Run(Path())
    (rows,) = (rows for header, rows in tables(TEXT["docs/runs.md"]) if rows[0][0] == "recipe.yaml")
    named = " ".join(row[0] for row in rows)
    for name, member in vars(Run).items():
        if isinstance(member, property):
            assert getattr(run, name).name in named, name


def test_the_page_of_runs_names_every_file_of_a_checkpoint() -> None:
    described = re.findall(r"^    (\S+\.(?:safetensors|json))", checkpoint.__doc__ or "", re.MULTILINE)
    (rows,) = (rows for _, rows in tables(TEXT["docs/runs.md"]) if rows[0][0] == "weights.safetensors")
    assert [row[0] for row in rows] == described
