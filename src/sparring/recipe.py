"""Recipe: everything that defines a run, as one validated object and as YAML.

A recipe is data. The sections `train`, `evaluate` and `machine` mean the same in every domain and are typed here; `data`, `model`
and `loss` belong to the domain and its game, which validate them when the game is built.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from sparring.errors import UserError, nearest
from sparring.options import explain, is_reference

PACKAGED = Path(__file__).parent / "domains"


class Section(pydantic.BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", validate_assignment=True)


class Regularize(Section):
    """Terms on a player's weights and limits on its gradients; each is off at its default."""

    l1: float = pydantic.Field(0.0, ge=0, description="weight of the sum of absolute weights")
    l2: float = pydantic.Field(0.0, ge=0, description="weight of half the sum of squared weights")
    orthogonal: float = pydantic.Field(0.0, ge=0, description="weight of the off-diagonal orthogonality term (BigGAN)")
    clip_weights: float | None = pydantic.Field(None, gt=0, description="clamp weights to ±this after each turn (WGAN)")
    clip_gradient_norm: float | None = pydantic.Field(None, gt=0)
    clip_gradient_value: float | None = pydantic.Field(None, gt=0)


class Player(Section):
    """What one player has different from the others."""

    optimizer: dict[str, Any] = {}
    regularize: dict[str, Any] = {}
    freeze: list[str] = pydantic.Field([], description="modules that stay as they are, by name or pattern")


class Average(Section):
    """The exponential moving average of the generator that samples are drawn from."""

    half_life: float = pydantic.Field(0.0, ge=0, description="in samples; 0: no average")
    warmup: float = pydantic.Field(0.05, ge=0, description="the half-life never exceeds this share of the samples seen")
    final_half_life: float | None = pydantic.Field(None, ge=0, description="reached after `over` steps; none: it stays")
    over: int = pydantic.Field(0, ge=0, description="steps from the first half-life to the final one; 0: all steps")


class Turns(Section):
    """How many turns each player takes in a step."""

    discriminator: int = pydantic.Field(1, ge=1)
    generator: int = pydantic.Field(1, ge=1)
    final_discriminator: int | None = pydantic.Field(None, ge=1, description="the count reached after `over` steps")
    final_generator: int | None = pydantic.Field(None, ge=1)
    over: int = pydantic.Field(0, ge=0, description="steps from the first counts to the final ones; 0: all steps")
    balance: bool = pydantic.Field(False, description="choose turns by the discriminator's accuracy")

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> Turns:
        fixed = (self.discriminator, self.generator, self.final_discriminator, self.final_generator, self.over)
        if self.balance and fixed != (1, 1, None, None, 0):
            raise ValueError("balance chooses the counts itself: leave them at 1")
        return self


class Train(Section):
    """How the game is played."""

    steps: int | None = pydantic.Field(None, ge=0)
    epochs: float | None = pydantic.Field(None, gt=0)
    minutes: float | None = pydantic.Field(None, gt=0)
    batch_size: int = pydantic.Field(64, ge=1)
    micro_batches: int = pydantic.Field(1, ge=1, description="cut each batch into so many parts and accumulate")
    seed: int = pydantic.Field(0, ge=0)
    turns: Turns = Turns()
    optimizer: dict[str, Any] = {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]}
    schedule: dict[str, Any] = {"name": "constant"}
    regularize: Regularize = Regularize()
    players: dict[str, Player] = {}
    ema: Average = Average()
    checkpoint_every: int = pydantic.Field(1000, ge=1)
    keep: int = pydantic.Field(3, ge=1, description="newest checkpoints to keep, beside the best")
    sample_every: int = pydantic.Field(500, ge=1)
    sample_count: int = pydantic.Field(64, ge=1)
    log_every: int = pydantic.Field(20, ge=1)
    deterministic: bool = pydantic.Field(True, description="same machine, same recipe, same bits")
    shared_noise: bool = pydantic.Field(
        True,
        description="every process draws the random numbers of the whole batch, so that the number of processes changes nothing; "
        "false: its own only, which is cheaper where they are many, and ties the run to that number",
    )
    shard_optimizer: bool = pydantic.Field(
        False, description="spread the optimisers' state over the processes, where memory is short"
    )
    sync_batch_norm: bool = pydantic.Field(
        False, description="batch norm takes its statistics from the whole batch, and not from each process's share"
    )


class Machine(Section):
    """How the machine plays: speed and rounding, never what is played. Whatever is `auto` is chosen by measuring."""

    precision: Literal["auto", "32", "bf16", "16"] = pydantic.Field(
        "auto", description="of forward passes; weights, losses and penalties are float32 always"
    )
    threads: Literal["auto"] | int = pydantic.Field("auto", description="of each process, on a CPU")
    channels_last: Literal["auto"] | bool = pydantic.Field("auto", description="images with their channels innermost")
    compile: Literal["auto", "graphs"] | bool = pydantic.Field(
        "auto", description="first-order passes by torch.compile; graphs: as CUDA graphs, too"
    )

    @pydantic.field_validator("precision", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value  # `--set machine.precision=32`

    @pydantic.field_validator("threads")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("at least one thread works")
        return value


class Evaluate(Section):
    """Measuring during the training, which decides the best checkpoint and when it is enough."""

    every: int | None = pydantic.Field(None, ge=1, description="steps; none: at every checkpoint; see also `metric`")
    metric: str | None = pydantic.Field(None, description="the figure that names the best checkpoint; none: no figures")
    features: str | None = pydantic.Field(
        None, description="the space to measure in, as in `sparring evaluate`; none: the domain's plainest"
    )
    count: int = pydantic.Field(1000, ge=2, description="samples on each side")
    patience: int | None = pydantic.Field(
        None, ge=1, description="end the training after so many measurements without a better one; none: never"
    )

    @pydantic.model_validator(mode="after")
    def _patience_needs_a_figure(self) -> Evaluate:
        if self.patience and self.metric is None:
            raise ValueError("patience needs a metric to wait for, e.g. evaluate.metric=sliced_wasserstein")
        return self


class Private(Section):
    """Differentially private training: what a turn learns of each sample is limited, and drowned in noise. Off without `epsilon` and `noise`."""

    epsilon: float | None = pydantic.Field(
        None, gt=0, description="the budget, of which no more is ever spent; none: it has no end"
    )
    noise: float | None = pydantic.Field(
        None,
        gt=0,
        description="deviation of the noise, in units of `clip`; none: as much as `epsilon` asks of all steps",
    )
    clip: float = pydantic.Field(1.0, gt=0, description="length of a sample's gradient, at most")
    delta: float = pydantic.Field(1e-5, gt=0, lt=1, description="below one in as many as there are samples")
    counts: float | None = pydantic.Field(
        None,
        gt=0,
        description="deviation of the noise on counts that describe the data, in units of what a sample changes; none: about what a "
        "tenth of `epsilon` buys, 20 without one",
    )
    accountant: Literal["rdp", "prv"] = pydantic.Field(
        "rdp", description="of opacus: rdp never says too little; prv is closer, and slower"
    )
    secure: bool = pydantic.Field(
        False,
        description="randomness from the system's cryptographic generator: then no run is repeated, or resumed, bit for bit",
    )

    @property
    def on(self) -> bool:
        """Whether the training is private."""
        return self.epsilon is not None or self.noise is not None


class Recipe(Section):
    """Everything that defines a run."""

    name: str
    summary: str = ""
    paper: str = ""
    domain: str = "image"
    game: str = "adversarial"
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    machine: Machine = Machine()
    private: Private = Private()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Recipe:
        """Validate plain data. Raises UserError, one line, naming the key and the nearest known one."""
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise UserError(explain(error, cls, "")) from error

    def plain(self) -> dict[str, Any]:
        """As plain data, every default filled in."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """As YAML that `Recipe.parse` reads back."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True, width=110)

    def override(self, assignments: Iterable[str] = (), **sections: Mapping[str, Any]) -> Recipe:
        """A copy with `KEY=VALUE` assignments (dotted keys, YAML values) and whole sections merged in."""
        values = self.plain()
        for section, content in sections.items():
            values = merge(values, {section: dict(content)})
        for assignment in assignments:
            values = merge(values, _assignment(assignment))
        return Recipe.parse(values)

    def player(self, name: str) -> tuple[dict[str, Any], Regularize]:
        """The optimiser options and the regularisation of one player."""
        own = self.train.players.get(name, Player())
        optimizer = merge(self.train.optimizer, own.optimizer, depth=2)
        try:
            return optimizer, Regularize.model_validate({**self.train.regularize.model_dump(), **own.regularize})
        except pydantic.ValidationError as error:
            raise UserError(explain(error, Regularize, f"train.players.{name}.regularize")) from error

    @property
    def needs_foreign_code(self) -> list[str]:
        """The `module:Name` references in this recipe: code that runs only when the user passes the recipe on purpose."""
        # Everything that names a thing of code, optimisers and metrics too; `data` names places (`hf:mnist`) only.
        named = [self.domain, self.game, self.model, self.loss, self.train.model_dump(), self.evaluate.metric]
        return sorted({value for value in _strings(named) if is_reference(value)})


def load_recipe(reference: str | Path) -> Recipe:
    """The recipe that is packaged under a name, registered by another package, or in a YAML file.

    A recipe may say `extends: NAME` (or a file beside it): its own keys are merged over that one's.
    Raises UserError where there is none, with the nearest name.
    """
    return Recipe.parse(_read(str(reference), ()))


def named_recipes() -> dict[str, Path]:
    """All packaged recipes by name, and those that other packages register under `sparring.recipes`."""
    found = {path.stem: path for path in sorted(PACKAGED.glob("*/recipes/*.yaml"))}
    for entry in entry_points(group="sparring.recipes"):
        # The value names a package; its folder holds the files. Only the folder is looked up, no code of it is run.
        folder = _package_folder(entry.value)
        found.update({path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {})
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """`over` laid on `base`, mapping by mapping; other values replace.

    Where `over` changes the `name` in a mapping (another network, optimiser, loss), the options that came with the old
    name go with it: all its siblings, or only `options` where the mapping is a whole section of a recipe (depth 1).
    """
    result = copy.deepcopy(dict(base))
    if depth and "name" in over and over["name"] != result.get("name", over["name"]):
        result = {key: value for key, value in result.items() if depth == 1 and key != "options"}
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value, depth + 1)
        else:
            result[key] = copy.deepcopy(value)
    return result


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys at which two plain recipes differ, as `key: old → new` lines."""
    lines: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} → {after}")
    return lines


def _read(reference: str, seen: tuple[str, ...]) -> dict[str, Any]:
    known = named_recipes()
    path = known.get(reference) or Path(reference)
    if not path.is_file():
        kind = "no such recipe file" if path.suffix in {".yaml", ".yml"} else "unknown recipe"
        raise UserError(f"{kind} {reference!r}{nearest(reference, known)}; `sparring recipes` lists them")
    if str(path.resolve()) in seen:
        raise UserError(f"{path}: the recipe extends itself")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys, not {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent:
        beside = path.parent / str(parent)
        base = _read(str(beside) if beside.is_file() else str(parent), (*seen, str(path.resolve())))
        values = merge({key: value for key, value in base.items() if key not in {"summary", "paper"}}, values)
    values.setdefault("name", path.stem)
    return values | ({"name": path.stem} if parent and values["name"] == str(parent) else {})


def assigned(assignments: Iterable[str], section: str) -> dict[str, Any]:
    """The keys of one section that `KEY=VALUE` assignments give. Raises UserError for those of another."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        values = merge(values, _assignment(assignment))
    if strange := [key for key in values if key != section]:
        raise UserError(f"--set {strange[0]}: only keys of `{section}` mean something here, e.g. {section}.size=256")
    found: dict[str, Any] = values.get(section, {})
    return found


def _assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text!r}: write KEY=VALUE, e.g. train.steps=2000")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not valid YAML") from error
    if isinstance(nested, str):
        nested = _number(nested)
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return nested


def _number(text: str) -> str | float:
    """YAML 1.1 reads `2e-4` as text; a user means the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings([*value])  # penalties are named by their keys
        yield from _strings([*value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _package_folder(package: str) -> Path | None:
    import importlib.util

    spec = importlib.util.find_spec(package.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *package.split(".")[1:])
