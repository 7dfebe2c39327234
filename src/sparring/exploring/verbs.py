"""What a trained generator can be used for, as verbs: each opens a run, does one thing, and writes it down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring import sheets, stored
from sparring.exploring.directions import FOUND, Directions, edit, find_directions, show_directions
from sparring.exploring.projection import Projection
from sparring.exploring.projection import project as search
from sparring.exploring.sheets import Grid, save_grid
from sparring.exploring.walks import Walk, film_walk
from sparring.files import write_json
from sparring.run import Run
from sparring.trained import Label, Trained, load

Progress = Callable[[str, int, int], None]


def interpolate(
    run: str | Path,
    *,
    out: str | Path | None = None,
    classes: Sequence[str] | None = None,
    rows: int = 8,
    columns: int = 10,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
) -> Path:
    """A sheet whose rows go from one sample to another; with `classes` from class to class, one latent in each row.

    out: the picture; None: `RUN/interpolation.png`. Raises UserError.
    """
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    options: dict[str, Any] = {"rows": rows, "columns": columns, "seed": seed, "truncation": truncation}
    if classes is None:
        grid = sheets.interpolate(trained, label=label, **options)
    elif label is None:
        grid = sheets.between_classes(trained, classes, **options)
    else:
        raise UserError("--between names the classes itself: leave --label out")
    return save_grid(trained, grid, _picture(out, run, "interpolation.png"))


def mix(
    run: str | Path,
    *,
    out: str | Path | None = None,
    layers: str = "coarse",
    rows: int = 5,
    columns: int = 6,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
) -> Path:
    """A sheet of mixed styles: each row's sample with the `layers` of each column's.

    layers: `coarse`, `middle`, `fine`, or a range as `2-4`. out: None: `RUN/mixing.png`. Raises UserError.
    """
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    grid = sheets.mix_styles(
        trained, rows=rows, columns=columns, layers=layers, seed=seed, label=label, truncation=truncation
    )
    return save_grid(trained, grid, _picture(out, run, "mixing.png"))


def by_class(
    run: str | Path,
    each: int,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
) -> Path:
    """A sheet with a row of `each` samples for every class. out: None: `RUN/classes.png`. Raises UserError."""
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    grid = sheets.by_class(trained, each, seed=seed, truncation=truncation)
    return save_grid(trained, grid, _picture(out, run, "classes.png"))


def walk(
    run: str | Path,
    out: str | Path,
    *,
    samples: int = 16,
    anchors: int = 5,
    seconds: float = 8.0,
    fps: int = 25,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
) -> Path:
    """A film of samples that change into each other, from anchor to anchor and back to the first.

    out: ends in .gif, .webp, .png or .mp4 (which needs ffmpeg). samples: side by side. Raises UserError.
    """
    plan = Walk(samples, anchors, seconds, fps, seed)
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    return film_walk(trained, plan, Path(out), label=label, truncation=truncation)


@dataclass
class DirectionsResult:
    """What was found. files: the sheet, and the directions themselves, which `generate --edit` reads."""

    directions: Directions
    files: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**self.directions.plain(), "files": self.files}


def directions(
    run: str | Path,
    *,
    method: str | None = None,
    count: int = FOUND,
    reach: float = 3.0,
    layers: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
    progress: Progress | None = None,
) -> DirectionsResult:
    """Find directions of the codes along which one thing changes; show them on a sheet, and keep them for editing.

    method: `pca` (GANSpace), `sefa` (style-based generators), or `labels` (InterFaceGAN: of the training data's classes).
    reach: standard deviations to either side that the sheet shows. out: the sheet; None: `RUN/directions/METHOD.png`.
    Raises UserError.
    """
    opened = Run.open(run)
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    classify = _classifier(trained, progress) if method == "labels" else None
    found = find_directions(trained, method, count=count, seed=seed, label=label, classify=classify)
    grid = show_directions(trained, found, reach=reach, seed=seed, label=label, truncation=truncation, layers=layers)
    arrays = stored.directions_file(opened, found.method)
    picture = save_grid(trained, grid, Path(out) if out else arrays.with_suffix(".png"))
    stored.write_directions(found, arrays, trained.step)
    return DirectionsResult(found, [str(picture), str(arrays)])


def steered(
    trained: Trained,
    run: str | Path,
    codes: Batch,
    edits: Iterable[str],
    layers: str = "all",
    *,
    batch_size: int,
    precision: str,
) -> Iterator[Batch]:
    """Samples of codes that are moved along directions first. edits: `DIRECTION:STRENGTH` each. Raises UserError."""
    opened = Run.open(run)
    for wish in edits:
        name, _, text = wish.rpartition(":")
        try:
            strength = float(text)
        except ValueError:
            strength = float("nan")
        if not name or not abs(strength) < float("inf"):
            raise UserError(f"--edit {wish!r}: write DIRECTION:STRENGTH, e.g. pca-1:2")
        chosen = None if layers == "all" else sheets.layer_range(trained, codes["code"], layers)
        codes = edit(codes, stored.look_up(opened, trained, name), name, strength, chosen)
    return (
        trained.render(
            Batch({name: value[start : start + batch_size] for name, value in codes.items()}), precision=precision
        )
        for start in range(0, codes.count, batch_size)
    )


@dataclass
class ProjectResult:
    """What was found of each photo, by its path. notes: what was done to the photos. files: what was written."""

    found: dict[str, dict[str, Any]]
    notes: list[str]
    files: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return vars(self)


def project(
    run: str | Path,
    photos: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    steps: int = 400,
    restarts: int = 4,
    seed: int = 0,
    label: Label = None,
    checkpoint: str | int = "best",
    device: str = "auto",
    trust: bool = False,
    progress: Progress | None = None,
) -> ProjectResult:
    """Find the codes whose samples are most like given images, and say how like they are.

    Writes into the folder `out` (None: `RUN/projected`): a reconstruction a photo, `sheet.png` (photo, reconstruction),
    `codes.npz` (for `generate(codes=…)`), `projection.json`. steps: of the descent. restarts: attempts at each; the best
    is kept. label: the class to draw for; None: that of the draw an attempt begins at. Raises UserError.
    """
    if not photos:
        raise UserError("name at least one image to project")
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    paths = [Path(photo) for photo in photos]
    target, notes = trained.domain.read_samples(paths, trained.recipe.data, trained.spec)
    tick = progress or (lambda what, done, total: None)
    projection = search(
        trained,
        target["data"],
        trained.domain.open_likeness(),
        steps=steps,
        restarts=restarts,
        seed=seed,
        label=label,
        progress=lambda done, total: tick("projecting", done, total),
    )
    folder = Path(out) if out else Path(run) / "projected"
    files = _write_projection(trained, projection, target["data"], paths, folder)
    result = ProjectResult(
        {str(photo): projection.plain(number) for number, photo in enumerate(photos)},
        notes,
        [str(file) for file in [*files, folder / "projection.json"]],
    )
    write_json(folder / "projection.json", {"run": str(run), "step": trained.step, **result.plain()})
    return result


def _write_projection(
    trained: Trained, projection: Projection, target: Tensor, photos: Sequence[Path], folder: Path
) -> list[Path]:
    """The reconstructions, the sheet and the codes."""
    names: list[str] = []
    for photo in photos:  # of photos with one name in several folders, none may be lost
        same = sum(1 for other in photos[: len(names)] if other.stem == photo.stem)
        names.append(f"{photo.stem}-{same + 1}" if same else photo.stem)
    made = projection.samples["data"].cpu()
    files = []
    for number, name in enumerate(names):
        one = Batch(data=made[number : number + 1])
        files += trained.domain.save([one], (), folder / f"{name}-projected.png", "sheet")
    both = torch.stack([target.cpu(), made], dim=1).flatten(0, 1)
    grid = Grid(Batch(data=both), 2, captions=names, headings=["photo", "found"])
    files.append(save_grid(trained, grid, folder / "sheet.png"))
    stored.write_codes(projection.codes, folder / "codes.npz", names, trained.step)
    return [*files, folder / "codes.npz"]


def _classifier(trained: Trained, progress: Progress | None) -> Callable[[Batch], tuple[Tensor, Sequence[str]]]:
    """Tells the classes of the training data in samples. Raises UserError where it has none that can be learnt."""
    tick = progress or (lambda what, done, total: None)

    def classify(samples: Batch) -> tuple[Tensor, Sequence[str]]:
        # Opened when it is wanted: a game that classes cannot be told in says so before anything is learnt.
        data = trained.domain.open_data(trained.recipe.data)
        space = trained.domain.open_features("classifier", data, lambda done, total: tick("classifier", done, total))
        logits = space(samples).get("logits")
        if logits is None:
            raise UserError(f"directions by labels need training data with labels: {space.name}")
        return logits, data.spec.classes

    return classify


def _picture(out: str | Path | None, run: str | Path, name: str) -> Path:
    """Where a sheet goes. Raises UserError for what is no picture."""
    path = Path(out) if out else Path(run) / name
    if path.suffix.lower() != ".png":
        raise UserError(f"cannot write {path}: a sheet is one .png")
    return path
