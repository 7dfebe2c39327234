"""The generator as a `torch.export` program: PyTorch's own form for other programs, in Python or C++, and for compilers."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from sparring.core.exportable import Exportable, Picture
from sparring.errors import UserError
from sparring.exporting.agreement import SEED, require_agreement

DESCRIPTION = "sparring.json"


def trace(function: Exportable) -> ExportedProgram:
    """The program of inputs by name, for every batch size, and for pictures of every size that may be.

    Raises UserError where the network cannot be traced.
    """
    # Two: a size of 1 would be taken for a constant.
    inputs = function.draw(2, seed=SEED)
    batch = Dim("batch", min=1)
    shapes: dict[str, dict[int, Any]] = {each.name: {0: batch} for each in function.inputs}
    for each in function.inputs:
        if isinstance(each, Picture) and not each.fixed:
            sides = Dim("rows", min=1), Dim("columns", min=1)
            shapes[each.name] |= {
                2 + axis: side * each.stride if each.stride > 1 else side for axis, side in enumerate(sides)
            }
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(function, (), inputs, dynamic_shapes=shapes)
    except Exception as error:  # torch.export documents no common class of what it raises
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"torch.export cannot trace this generator for every batch size ({type(error).__name__}: {first}); "
            "use --format safetensors"
        ) from error


def settle_sizes(function: Exportable) -> None:
    """Hold a function of pictures to the size that it was trained on, where it cannot be traced for others."""
    if not any(isinstance(each, Picture) and not each.fixed for each in function.inputs):
        return
    try:
        trace(function)
    except UserError:
        function.inputs = tuple(
            replace(each, fixed=True) if isinstance(each, Picture) else each for each in function.inputs
        )


def to_program(function: Exportable, description: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The content of a `.pt2` file, with the description in it, and how far what is loaded from it agrees."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(trace(function), stream, extra_files={DESCRIPTION: json.dumps(description)})
        stream.seek(0)
        loaded = torch.export.load(stream).module()
    with torch.no_grad():
        difference = require_agreement(function, lambda inputs: loaded(**inputs), "torch.export program")
    return stream.getvalue(), {"difference": difference}
