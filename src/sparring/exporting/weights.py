"""The generator's weights as safetensors, for programs that use the package itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from sparring.core.exportable import Exportable
from sparring.core.game import DataSpec
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.exporting.agreement import eager, require_agreement
from sparring.recipe import Recipe
from sparring.trained import trusted

KEY = "sparring"
"""What the description is called in a file's metadata."""


def to_safetensors(function: Exportable, description: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The file's content, with the description in its header, and how far a generator rebuilt from it agrees."""
    # Clones, because tied weights share memory, which the format has no word for.
    tensors = {name: value.cpu().contiguous().clone() for name, value in function.state_dict().items()}
    content = safetensors.torch.save(tensors, metadata={KEY: json.dumps(description)})
    again = _rebuild(content, "the new file", trust=True)
    return content, {"difference": require_agreement(function, eager(again), "file of weights")}


def load_generator(file: str | Path, *, trust: bool = False) -> Exportable:
    """The generator in a file that `sparring export --format safetensors` wrote, in eval mode on the CPU.

    Call it with its `inputs` by name. trust: allow its recipe to import code from outside the package.
    Raises UserError for a file that is no such one.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    return _rebuild(content, str(file), trust)


def _rebuild(content: bytes, name: str, trust: bool) -> Exportable:
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        description = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY])
        data = description["data"]
        spec = DataSpec(tuple(data["shape"]), tuple(data["classes"]), data["count"], data["extra"])
        recipe = Recipe.parse(description["recipe"])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: not a generator that `sparring export` wrote: {error}") from error
    function = open_domain(recipe.domain).build_game(trusted(recipe, trust), spec).exportable()
    if function is None or {key: value.shape for key, value in tensors.items()} != {
        key: value.shape for key, value in function.state_dict().items()
    }:
        raise UserError(f"{name}: its weights do not fit the networks that its recipe describes")
    function.load_state_dict(tensors)
    return function.eval().requires_grad_(False)
