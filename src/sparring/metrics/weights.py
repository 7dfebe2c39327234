"""Files of pretrained weights: where they are looked for, how they are read, and what they are told apart by."""

from __future__ import annotations

import hashlib
import re
import urllib.error
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sparring.data.built import default_folder
from sparring.errors import UserError


class Unavailable(UserError):  # noqa: N818  (says what is so, as Damaged does)
    """What was asked for needs a library or a file of weights that is not here: something else may do instead."""


def weight_folders() -> list[Path]:
    """Where weights are looked for, in order: `$SPARRING_CACHE/weights`, and the checkpoints of torch hub."""
    return [default_folder() / "weights", Path(torch.hub.get_dir(), "checkpoints")]


def find_weights(names: Sequence[str], *, purpose: str, url: str, download: bool = False) -> Path:
    """The first of the files or folders `names` that is there, folder by folder.

    purpose, url: what wants them and where they can be had, for the message.
    download: fetch `url` into `$SPARRING_CACHE/weights`, under the first name, where none is there.
    Raises Unavailable where there are none, or they cannot be fetched.
    """
    folders = weight_folders()
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    if download:
        return _download(url, folders[0] / names[0])
    raise Unavailable(f"{purpose} needs pretrained weights: put {url} into {folders[0]}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a `.safetensors` file or of one that `torch.save` wrote, on the CPU; nothing in it is run.

    Raises UserError where it cannot be read or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: is no whole safetensors file; fetch it again") from error
    except Exception as error:  # bytes that are no weights make the unpickler raise nearly anything
        raise UserError(f"{path}: holds no plain weights (or only a part of them); fetch it again") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no table of named tensors, as network.state_dict() makes it")
    return {str(name): value for name, value in content.items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Make `tensors` the network's weights, float32 and without gradients, and set it to eval mode.

    The network may have been built on the meta device: nothing of its own weights is kept.
    Raises UserError where names or shapes are not exactly the network's (batch norm's counter may be missing).
    """
    wanted = network.state_dict()
    given = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    for name in wanted:
        # Files from before torch 0.4.1 lack it, and nothing that is measured depends on it.
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, torch.zeros((), dtype=torch.int64))
    complaints = [(name, "is missing") for name in wanted if name not in given]
    complaints += [(name, "does not belong there") for name in given if name not in wanted]
    complaints += [
        (name, f"is {tuple(given[name].shape)} and not {tuple(value.shape)}")
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    if complaints:
        name, problem = complaints[0]
        more = f", and {len(complaints) - 1} more" if len(complaints) > 1 else ""
        raise UserError(f"{path}: not the weights of {what}: {name} {problem}{more}")
    network.load_state_dict(given, assign=True)
    network.requires_grad_(False).eval()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of names, types, shapes and contents: equal for equal weights, whatever file holds them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _download(url: str, path: Path) -> Path:
    """Fetch `url`; the file is whole or not there."""
    # Torch's own habit: a file name that ends in -0123abcd.pth carries the first digits of its content's SHA-256.
    prefix = re.search(r"-([0-9a-f]{8})\.[^.]+$", url)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), prefix.group(1) if prefix else None, progress=False)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise Unavailable(f"{url} could not be fetched ({error}): put the file into {path.parent} by hand") from error
    return path
