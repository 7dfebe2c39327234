"""Descriptions of real samples, kept between measurements: features are dear, and the data stays the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save

from sparring.core.game import Batch
from sparring.files import write_whole


def stored_name(*parts: object) -> str:
    """A file name for what is described by `parts` (content, features, count, seed)."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=12).hexdigest() + ".safetensors"


def read_stored(file: Path) -> Batch | None:
    """What `write_stored` wrote, or None where there is nothing or it is damaged."""
    try:
        return Batch(load_file(file))
    except (OSError, safetensors.SafetensorError):
        return None


def write_stored(file: Path, samples: Batch) -> None:
    """Keep a description, whole or not at all. Raises OSError."""
    write_whole(file, save({key: value.contiguous() for key, value in samples.items()}))
