"""From a trained game to the function that is exported, and to what is said about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from sparring.core.exportable import Exportable, Picture
from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.trained import Trained

CHECKED = 3  # samples that the game and its function are compared on


def generator_function(trained: Trained) -> Exportable:
    """The generator of a trained game as a function, in eval mode.

    Raises UserError for a game that has none, or whose `generate` does something else with its generator's output.
    """
    function = trained.game.exportable()
    kind = type(trained.game).__name__
    if function is None:
        raise UserError(
            f"recipe {trained.recipe.name!r}: its game {kind} has no generator that is a function of "
            f"{'images alone' if trained.game.translates else 'latents (and labels)'}, so there is nothing to export; a game of "
            "your own says what it is in `exportable()`"
        )
    function.eval().requires_grad_(False)
    if trained.game.translates:
        _require_same(trained, function)
    else:
        _require_faithful(trained, function)
    return function


def with_plain_weights(function: Exportable) -> Exportable:
    """The same function, its parametrised weights made plain numbers: spectral norms are constants after training.

    In place: copies of parametrised layers share a class, which loses its weights with the first of them.
    """
    for layer in list(function.modules()):
        if is_parametrized(layer):
            for name in list(layer.parametrizations):  # type: ignore[arg-type]
                remove_parametrizations(layer, name, leave_parametrized=True)
    return function.requires_grad_(False)


def describe(trained: Trained, function: Exportable, fingerprint: str) -> dict[str, Any]:
    """Everything that using the generator needs, as JSON-ready data: recipe, data, inputs, output."""
    spec = asdict(type(trained.game).spec_to_share(trained.spec))
    free = any(isinstance(each, Picture) and not each.fixed for each in function.inputs)
    shape = [trained.spec.shape[0], "height", "width"] if free else list(trained.spec.shape)
    return {
        "made_by": "sparring",
        "recipe": trained.recipe.plain(),
        "step": trained.step,
        "parameters": sum(each.numel() for each in function.parameters()),
        "data": {"source": trained.recipe.data.get("source"), "fingerprint": fingerprint, **spec},
        "inputs": [each.plain() for each in function.inputs],
        "output": {
            "name": "samples", "dtype": "float32", "shape": ["batch", *shape], "values": trained.domain.sample,
        },
    }  # fmt: skip


def _require_faithful(trained: Trained, function: Exportable) -> None:
    """Compare the function with `Game.generate`, whose draws of latents are its own affair.

    The network is watched while the game generates; then the function must hand it inputs of the same form, and make the
    same samples of the same output.
    """
    forms: list[list[tuple[torch.Size, torch.dtype]]] = []
    outputs: list[Tensor] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        forms.append([(each.shape, each.dtype) for each in args if isinstance(each, Tensor)])
        outputs.append(output)
        return outputs[0]

    rng = torch.Generator(trained.game.device).manual_seed(0)
    handle = function.generator.register_forward_hook(watch)
    try:
        with torch.no_grad():
            drawn = trained.game.generate(CHECKED, rng=rng)["data"]
            samples = function(**function.draw(CHECKED, seed=0))
    finally:
        handle.remove()
    once_each = len(forms) == 2 and forms[0] == forms[1]
    if not once_each or not torch.allclose(samples, drawn, equal_nan=True):
        raise _unfaithful(trained, "draws its samples", "`generate` or `sample`")


def _require_same(trained: Trained, function: Exportable) -> None:
    """Compare the function with `Game.translate`, on the same inputs."""
    inputs = function.draw(CHECKED, seed=0)
    with torch.no_grad():
        made = trained.game.translate(Batch(inputs), rng=torch.Generator(trained.game.device).manual_seed(0))["data"]
        samples = function(**inputs)
    if made.shape != samples.shape or not torch.allclose(samples, made, atol=1e-5, equal_nan=True):
        raise _unfaithful(trained, "translates", "`translate` or `make`")


def _unfaithful(trained: Trained, does: str, method: str) -> UserError:
    return UserError(
        f"the game {type(trained.game).__name__} {does} in another way than its `exportable()` says: "
        f"override that method where {method} is overridden"
    )
