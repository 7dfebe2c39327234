"""Vision transformers through the transformers library, from tensors that we have read ourselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparring.errors import UserError, missing_extra
from sparring.imaging.features.weights import model_file
from sparring.metrics.weights import Unavailable, weight_folders


def library(purpose: str) -> Any:
    """The module `transformers`. Raises Unavailable with the extra's name where it is not installed.

    It is chosen over timm because it loads without torchvision.
    """
    try:
        import transformers
    except ImportError as error:
        raise Unavailable(str(missing_extra("transformers", "features", purpose))) from error
    return transformers


def find_model(repositories: Sequence[str], *, purpose: str, download: bool = False) -> Path:
    """The folder of the first of these hub models that is here: in a weights folder, or in the hub's own cache.

    repositories: `owner/name`; in a weights folder it is looked for as `name`.
    download: fetch the first one into the hub's cache where none is here. Raises Unavailable.
    """
    for folder in weight_folders():
        for repository in repositories:
            if (folder / repository.partition("/")[2] / "config.json").is_file():
                return folder / repository.partition("/")[2]
    library(purpose)
    # transformers brings it along.
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    for repository in repositories:
        cached = try_to_load_from_cache(repository, "config.json")
        weights = try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(cached, str) and isinstance(weights, str):
            return Path(cached).parent
    if download:
        try:
            return Path(snapshot_download(repositories[0], allow_patterns=["config.json", "model.safetensors"]))
        except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's
            reason = str(error).strip().split("\n")[0]
            raise Unavailable(f"{purpose}: {repositories[0]} could not be fetched: {reason}") from error
    raise Unavailable(
        f"{purpose} needs pretrained weights: put config.json and model.safetensors of "
        f"https://huggingface.co/{repositories[0]} into {weight_folders()[0] / repositories[0].partition('/')[2]}"
    )


def build(model: Any, config: Any, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> nn.Module:
    """A model of the library with exactly these weights, in eval mode, float32.

    model: its class. tensors: under the names that the library writes, whatever it calls its modules by now.
    Raises UserError where names or shapes are not those of the model that `config` describes.
    """
    try:
        with _quiet():
            network, report = model.from_pretrained(
                None,
                config=config,
                state_dict={name: value.float() for name, value in tensors.items()},
                output_loading_info=True,
            )
    except RuntimeError as error:
        raise UserError(f"{path}: not the weights of {what}: sizes differ from its config") from error
    for problem, key in (
        ("is missing", "missing_keys"),
        ("does not belong there", "unexpected_keys"),
        ("has another shape", "mismatched_keys"),
    ):
        for name in sorted(report[key], key=str)[:1]:
            shown = name if isinstance(name, str) else name[0]
            raise UserError(f"{path}: not the weights of {what}: {shown} {problem}")
    result: nn.Module = network.float().requires_grad_(False).eval()
    return result


def title(folder: Path) -> str:
    """A model's folder by name: the hub's caches say `models--owner--name/snapshots/…`."""
    for part in folder.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/", 1)
    return folder.name


def weights_of(path: Path) -> Path:
    """The file of weights of a model's folder, or of a file in it."""
    return path if path.suffix in (".safetensors", ".bin") else model_file(path if path.is_dir() else path.parent)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library reports to the terminal what `build` says in one line."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
