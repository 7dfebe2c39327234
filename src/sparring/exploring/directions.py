"""Directions in the space of codes along which one thing changes, and editing along them.

A direction's strength counts in standard deviations of the codes along it, so 2 is a large but not an unusual change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sparring.core.game import Batch
from sparring.errors import UserError, nearest
from sparring.exploring.sheets import Grid, layer_range
from sparring.nn.condition import as_vector
from sparring.trained import Label, Trained

Method = Literal["pca", "sefa", "labels"]
SAMPLES = 4000  # codes that directions are learnt from
ACTIVATIONS = 2000  # of them, those whose activations are looked at
FOUND = 8


@dataclass(frozen=True)
class Directions:
    """Directions (K, D) of unit length in codes (…, D), most telling first.

    names: `pca-1`, …, or the classes. spread: standard deviation of the codes along each, (K,).
    weight: what makes each telling, (K,): the share of variance (pca, sefa: of the squared change), or the share of
    held-out codes on the right side (labels). method, how: by which method, and on what, in words.
    """

    names: tuple[str, ...]
    vectors: Tensor
    spread: Tensor
    weight: Tensor
    method: Method
    how: str

    def index(self, name: str) -> int:
        """The number of a direction. Raises UserError with the nearest name."""
        if name not in self.names:
            raise UserError(f"unknown direction {name!r}{nearest(name, self.names)}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data, without the vectors."""
        rows = zip(self.names, self.spread.tolist(), self.weight.tolist(), strict=True)
        found = [{"name": name, "spread": spread, "weight": weight} for name, spread, weight in rows]
        return {"method": self.method, "how": self.how, "directions": found}


def find_directions(
    trained: Trained,
    method: Method | str | None = None,
    *,
    count: int = FOUND,
    samples: int = SAMPLES,
    seed: int = 0,
    label: Label = None,
    classify: Callable[[Batch], tuple[Tensor, Sequence[str]]] | None = None,
) -> Directions:
    """The `count` most telling directions of a generator's codes. The same seed finds the same.

    method: `pca`, `sefa`, `labels`, or None: pca. label: learn from samples of this class alone.
    classify: samples → (logits (N, K), names of the K classes), for `labels`.
    Raises UserError for a method that the generator does not allow.
    """
    if method is not None and method not in get_args(Method):
        raise UserError(
            f"unknown method {method!r}{nearest(method, get_args(Method))}; there are {', '.join(get_args(Method))}"
        )
    codes = trained.codes(samples, seed=seed, label=label)
    styled = codes["code"].ndim == 3
    if method == "sefa":
        if not styled:
            raise UserError(
                f"recipe {trained.recipe.name!r}: SeFa reads the layers that styles enter by, and its generator has none: "
                "use --method pca"
            )
        return _named("sefa", *_sefa(trained, codes), codes, count, "eigenvectors of the style layers' weights")
    if method == "labels":
        if classify is None:
            raise UserError("directions by labels need a classifier of samples: the training data has no labels")
        return _by_labels(trained, codes, classify)
    if styled:
        return _named("pca", *_principal(codes["code"][:, 0]), codes, count, f"PCA of {samples:,} mapped latents")
    return _named("pca", *_by_activations(trained, codes), codes, count, f"PCA of {ACTIVATIONS:,} samples' activations")


def edit(codes: Batch, directions: Directions, name: str, strength: float, layers: slice | None = None) -> Batch:
    """Codes moved along a direction by `strength` standard deviations, in some layers or all. Raises UserError."""
    number = directions.index(name)
    move = strength * directions.spread[number] * directions.vectors[number].to(codes["code"])
    moved = codes["code"].clone()
    if moved.ndim == 3:
        moved[:, layers or slice(None)] += move
    else:
        moved += move
    return Batch({**codes, "code": moved})


def show_directions(
    trained: Trained,
    directions: Directions,
    *,
    reach: float = 3.0,
    columns: int = 7,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    layers: str | None = None,
) -> Grid:
    """A row for each direction: one sample, from −`reach` to +`reach` standard deviations along it; as it is, in the middle."""
    base = trained.codes(1, seed=seed, label=label, truncation=truncation)
    chosen = None if layers is None else layer_range(trained, base["code"], layers)
    steps = torch.linspace(-reach, reach, columns).tolist()
    rows = [edit(base, directions, name, step, chosen) for name in directions.names for step in steps]
    codes = Batch({name: torch.cat([row[name] for row in rows]) for name in base})
    headings = [f"{step:+.2g}" if step else "0" for step in steps]
    return Grid(trained.render(codes), columns, captions=list(directions.names), headings=headings)


def _named(method: Method, vectors: Tensor, weight: Tensor, codes: Batch, count: int, how: str) -> Directions:
    """The first directions, each with its larger coordinate positive, and the codes' spread along them."""
    vectors, weight = vectors[:count], weight[:count]
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * largest.sign()  # else a library's whim decides which way is up
    flat = codes["code"][:, 0] if codes["code"].ndim == 3 else codes["code"]
    spread = (flat.double() @ vectors.double().T.to(flat.device)).std(0)
    names = tuple(f"{method}-{number + 1}" for number in range(len(vectors)))
    return Directions(names, vectors.float(), spread.float(), weight.float(), method, how)


def _principal(points: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes (D, D) of points (N, D), and the share of variance that each has (GANSpace: Härkönen et al. 2020)."""
    centred = points.double() - points.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    values = values.clamp(min=0)
    return vectors.T.flip(0), values.flip(0) / values.sum()


def _by_activations(trained: Trained, codes: Batch) -> tuple[Tensor, Tensor]:
    """GANSpace for generators without a mapping (Härkönen et al. 2020, sec. 3.2): PCA where the latent has become maps.

    The principal coordinates of an early layer's activations; each direction is the one that the latents, regressed on
    its coordinate, move by. Latents alone have no principal axes: they are drawn the same in all directions.
    """
    few = Batch({name: value[:ACTIVATIONS] for name, value in codes.items()})
    activations = _early_activations(trained, few).double()
    if "label" in few:  # what a class looks like is the label's doing, not the latent's
        design = as_vector(few["label"], len(trained.game.conditions)).double().to(activations.device)
        activations = activations - design @ torch.linalg.lstsq(design, activations, driver="gelsd").solution
    centred = activations - activations.mean(0)
    # There may be more activations than samples: the samples' inner products hold the same coordinates.
    # In float32, twice as fast: the first of them are far above its rounding.
    values, coordinates = (each.double() for each in torch.linalg.eigh((centred @ centred.T).float()))
    values, coordinates = values.flip(0).clamp(min=0), coordinates.T.flip(0)
    latents = few["code"].double()
    moves = coordinates[: latents.shape[1]] @ (latents - latents.mean(0))
    return nn.functional.normalize(moves, dim=1), values / values.sum()


def _early_activations(trained: Trained, codes: Batch) -> Tensor:
    """The outputs (N, F) of the second layer with weights that makes maps; of the second of all, where none does."""
    seen: list[tuple[int, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.append((output.ndim, output.flatten(1).cpu()))

    generator = cast(nn.Module, trained.game.generator)
    handles = [
        layer.register_forward_hook(note)
        for layer in generator.modules()
        if isinstance(weight := getattr(layer, "weight", None), Tensor) and weight.ndim > 1
    ]
    pieces = []
    try:
        for start in range(0, codes.count, 64):
            seen.clear()
            trained.render(Batch({name: value[start : start + 64] for name, value in codes.items()}))
            maps = [value for ndim, value in seen if ndim == 4] or [value for _, value in seen]
            pieces.append(maps[min(1, len(maps) - 1)])
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(pieces)


def _sefa(trained: Trained, codes: Batch) -> tuple[Tensor, Tensor]:
    """SeFa (Shen & Zhou 2021, eq. 5): eigenvectors of AᵀA, A the weights by which codes enter all layers together.

    The layers are found by what they are given: those with a weight matrix that meet a code itself.
    """
    one = codes["code"][:1]
    grams: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight = cast(Tensor, layer.weight).detach().double()
        grams[layer] = weight.T @ weight

    generator = cast(nn.Module, trained.game.generator)
    handles = []
    for layer in generator.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == one.shape[2]:
            handles.append(layer.register_forward_hook(note))
    try:
        trained.render(Batch(code=one))
    finally:
        for handle in handles:
            handle.remove()
    if not grams:
        raise UserError(f"recipe {trained.recipe.name!r}: found no layer that reads a style: use --method pca")
    values, vectors = torch.linalg.eigh(torch.stack([*grams.values()]).sum(0))
    return vectors.T.flip(0), values.flip(0) / values.sum()


def _by_labels(trained: Trained, codes: Batch, classify: Callable[[Batch], tuple[Tensor, Sequence[str]]]) -> Directions:
    """InterFaceGAN (Shen et al. 2020, sec. 3.1): the normal of the plane that parts a class's codes from the others'."""
    from sklearn.linear_model import LogisticRegression

    if codes["code"].ndim == 2 and "label" in codes:
        raise UserError(
            f"recipe {trained.recipe.name!r}: its classes are chosen by the label, so no direction of the latent means one: "
            "use --label, or --between"
        )
    logits, names = classify(trained.render(codes))
    told = logits.argmax(1).cpu().numpy()
    flat = codes["code"][:, 0] if codes["code"].ndim == 3 else codes["code"]
    points = flat.double().cpu().numpy()
    scale = points.std(0) + 1e-12
    learnt = np.arange(len(points)) % 5 > 0  # a fifth is held out
    kept, vectors, right = [], [], []
    for number, name in enumerate(names):
        inside = told == number
        if min(inside[learnt].sum(), (~inside)[learnt].sum()) < 10 or not inside[~learnt].any():
            continue  # a class that the generator hardly draws
        model = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
        model.fit(points[learnt] / scale, inside[learnt])
        guess = model.predict(points[~learnt] / scale)
        # Of each side alike, so that a rare class is not told by always saying no.
        right.append((guess[inside[~learnt]].mean() + 1 - guess[~inside[~learnt]].mean()) / 2)
        vectors.append(model.coef_[0] / scale)
        kept.append(name)
    if not kept:
        raise UserError("the generator's samples are of one class alone, so no direction tells classes apart")
    found = nn.functional.normalize(torch.from_numpy(np.stack(vectors)), dim=1)
    spread = torch.from_numpy((points @ found.numpy().T).std(0))
    how = f"logistic regression on {len(points):,} codes, labels by a classifier of the training data"
    return Directions(tuple(kept), found.float(), spread.float(), torch.tensor(right).float(), "labels", how)
