"""Run: the folder a training leaves behind, and where things are in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sparring.core.game import DataSpec
from sparring.errors import UserError
from sparring.files import write_json, write_whole
from sparring.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """The folder of one training."""

    folder: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe: reproduces the run."""
        return self.folder / "recipe.yaml"

    @property
    def data_file(self) -> Path:
        """What the game had to know of its data (shape, class names, count) and the data's fingerprint."""
        return self.folder / "data.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line: `{"step": …, "seconds": …, name: value, …}`."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint, `step-00001000`."""
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        """Sample sheets from fixed latents, `step-00001000.png`."""
        return self.folder / "samples"

    @property
    def events(self) -> Path:
        """TensorBoard events."""
        return self.folder / "events"

    @property
    def incidents(self) -> Path:
        """What led to a NaN: one folder each."""
        return self.folder / "incidents"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.folder / "report.html"

    @property
    def curves(self) -> Path:
        """The loss curves as a picture."""
        return self.folder / "curves.png"

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in `folder`. Raises UserError where there is none."""
        run = cls(Path(folder))
        if not run.folder.is_dir():
            raise UserError(f"{folder}: no such run folder")
        if not run.recipe_file.is_file():
            raise UserError(f"{folder}: not a run (it has no recipe.yaml); pass the folder that `sparring train` made")
        return run

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, spec: DataSpec, fingerprint: str) -> Run:
        """Make the folder and write what defines the run. Raises UserError where it already holds one."""
        run = cls(folder)
        if run.recipe_file.exists():
            raise UserError(
                f"{folder}: already holds a run; `sparring resume {folder}` goes on with it, or choose another --out"
            )
        run.write_recipe(recipe)
        write_json(run.data_file, {"fingerprint": fingerprint, **asdict(spec)})
        return run

    def write_recipe(self, recipe: Recipe) -> None:
        """Replace `recipe.yaml`."""
        write_whole(self.recipe_file, recipe.to_yaml())

    def read_recipe(self) -> Recipe:
        """The recipe of the run. Raises UserError where the file was damaged."""
        try:
            values = yaml.safe_load(self.recipe_file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{self.recipe_file}: not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise UserError(f"{self.recipe_file}: not a recipe")
        return Recipe.parse(values)

    def read_spec(self) -> tuple[DataSpec, str]:
        """What the game knew of its data, and the data's fingerprint."""
        try:
            values: dict[str, Any] = json.loads(self.data_file.read_text())
            fingerprint = values.pop("fingerprint")
            spec = DataSpec(tuple(values["shape"]), tuple(values["classes"]), values["count"], values["extra"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.data_file}: missing or damaged, so the networks cannot be rebuilt: {error}"
            ) from error
        return spec, fingerprint

    def read_metrics(self) -> list[dict[str, Any]]:
        """The recorded lines in order; a last line cut short by a kill is left out."""
        if not self.metrics_file.exists():
            return []
        lines = []
        for line in self.metrics_file.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines
