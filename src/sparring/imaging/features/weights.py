"""What a path of pretrained weights holds, told by the names of its tensors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparring.errors import UserError
from sparring.metrics.weights import read_tensors

NAMES = {
    "inception": {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch1x1.conv.weight", "fc.weight"},
    "dinov2": {"cls_token", "blocks.0.ls1.gamma", "blocks.0.attn.qkv.weight"},
}
"""Tensors that only a file of that network has all of. CLIP is not among them: its files do not say all it needs."""


def recognise(path: Path) -> str:
    """Which feature space the weights at `path` make: `inception`, `dinov2` or `clip`.

    path: a file of weights, or a model's folder with `config.json` beside them, as the transformers library saves it.
    Raises UserError where it is none of these.
    """
    if not path.exists():
        raise UserError(f"{path}: there is nothing there: name a file of weights, or a folder that holds a model")
    if folder := model_folder(path):
        family = str(read_config(folder).get("model_type", "")).removesuffix("_vision_model")
        if family in ("dinov2", "clip"):
            return family
        raise UserError(f"{path}: a model of type {family!r} is no feature space of ours; there are dinov2 and clip")
    if path.is_dir():
        raise UserError(f"{path}: holds no model (looked for config.json)")
    return _recognise_names(path, read_tensors(path))


def model_folder(path: Path) -> Path | None:
    """The folder of a model that the transformers library saved, for itself or for a file in it; None for anything else."""
    folder = path if path.is_dir() else path.parent
    return folder if (folder / "config.json").is_file() and (path == folder or _is_model(path)) else None


def read_config(folder: Path) -> dict[str, Any]:
    """A model's `config.json`. Raises UserError where it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'}: describes no model")
    return config


def model_file(folder: Path) -> Path:
    """The weights in a model's folder. Raises UserError where there are none in one piece."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: holds no weights in one piece (looked for model.safetensors, pytorch_model.bin)")


def _is_model(path: Path) -> bool:
    return path.name in ("model.safetensors", "pytorch_model.bin", "config.json")


def _recognise_names(path: Path, names: Iterable[str]) -> str:
    there = set(names)
    for family, needed in NAMES.items():
        if needed <= there:
            return family
    if any(name.startswith(("vision_model.", "visual.", "embeddings.", "encoder.layer.")) for name in there):
        raise UserError(f"{path}: weights of a transformer need their config.json beside them: name the model's folder")
    raise UserError(
        f"{path}: no weights of a feature space that we know (inception: the FID file; dinov2: its own files or a "
        f"model's folder; clip: a model's folder)"
    )
