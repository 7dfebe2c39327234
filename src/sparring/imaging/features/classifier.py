"""`classifier` features: a small network trained once on the data set itself, with its labels or without.

Pretrained networks know photographs; on digits, scans or spectrograms their features are a stranger's. This one knows
what the data are about, needs no download, and works on images of any size. Its figures compare generators of one data
set; they do not compare across data sets, nor with the figures in another network's features.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.data.built import default_folder
from sparring.data.dataset import Dataset
from sparring.errors import UserError
from sparring.files import write_json, write_whole
from sparring.imaging.features.compact import (
    CHUNK,
    FEATURES,
    CompactNetwork,
    draw_weights,
    from_bytes,
    settle,
    standardise,
    to_bytes,
    working_size,
)
from sparring.imaging.features.network import full_precision
from sparring.imaging.features.selfsupervised import learn_views, view
from sparring.imaging.features.supervised import learn_labels
from sparring.metrics.figure import Tick

VERSION = 1  # raise it when the same data would be learnt or measured differently: old networks are then left alone
FEWEST = 50  # images that something can be learnt from
PER_LABEL = 5  # images that a label needs, on average
POOL = 2**29  # bytes of images to learn from; of more, a random choice is used


@dataclass(frozen=True)
class Learnt:
    """How a network came about, as it is written beside its weights.

    taught: `labels`, `views` (self-supervised) or `nothing` (untrained). reason: why it was not labels, else empty.
    classes: the labels in the order of the logits. accuracy: on the held-out tenth. images: how many it learnt from.
    """

    taught: str
    reason: str
    classes: tuple[str, ...]
    accuracy: float | None
    images: int


class ClassifierFeatures:
    """The features (N, 128) of a network that was trained on the data it measures: see `sparring.metrics.figure.Features`.

    network: what computes them, settled. name: with the start of the digest, how it was trained and the held-out accuracy. digest: of the weights.
    classes: the labels that `logits` tell apart, in order; empty where it was trained without.
    accuracy: the share of held-out images whose label it tells; None where it was trained without.
    """

    def __init__(
        self, network: CompactNetwork, learnt: Learnt, shape: tuple[int, int, int], device: torch.device
    ) -> None:
        self.digest = _digest(network, shape)
        self.network, self._device = network.to(device), device
        self._shape, self._size = shape, working_size(shape)
        self.classes, self.accuracy, self.reason = learnt.classes, learnt.accuracy, learnt.reason
        same = self._size == shape[1:]
        self.resizer = "none" if same else f"area, to {self._size[0]}×{self._size[1]}"
        if learnt.accuracy is not None:
            how = f"{len(learnt.classes)} labels, {100 * learnt.accuracy:.1f} % held out"
        else:
            how = {"views": "self-supervised", "nothing": "untrained"}[learnt.taught] + f": {learnt.reason}"
        self.name = f"classifier {self.digest[:8]} ({how}, {FEATURES})"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, 128), and `logits` (N, K) where it was trained on labels, on the samples' device.

        samples: `data` (N, C, H, W) in [-1, 1], shaped as what it was trained on.
        Raises UserError for images of another shape, or with NaN.
        """
        data = samples["data"]
        if tuple(data.shape[1:]) != self._shape:
            raise UserError(
                f"classifier features were learnt on images of {_shape(self._shape)}, and these are "
                f"{_shape(tuple(data.shape[1:]))}: open both with the same data.size and data.channels"
            )
        with torch.no_grad(), full_precision(self._device):
            pixels = (to_bytes(chunk, self._size).to(self._device) for chunk in data.split(CHUNK))
            features = torch.cat([self.network(from_bytes(chunk)) for chunk in pixels])
            logits = self.network.logits(features)
        batch = Batch(features=features.to(data.device))
        if logits is not None:
            batch["logits"] = logits.to(data.device)
        return batch


def open_classifier(
    data: Dataset,
    *,
    folder: Path | None = None,
    use_labels: bool = True,
    samples: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Tick | None = None,
) -> ClassifierFeatures:
    """Train a small network on images, or find the one that was trained on them before.

    It learns the labels; where there are none, or they cannot be learnt, to recognise changed views of an image
    (self-supervised); with fewer than 50 images nothing, and its random convolutions are the features, which still
    rank samples (Naeem et al. 2020, section 4). The name of the features says which of these, and why.

    The same data, machine and seed give the same network. It is kept in `folder` by a digest of the data and these
    settings; what is damaged there is trained again.

    data: images (N, C, H, W), any size, 1 to 4 channels. folder: None: `features` in the cache, see
    `data.built.default_folder`. use_labels: False leaves labels out of it. samples: images shown in training; None:
    what takes about two minutes of one core at most. seed: of weights, order and views.
    device: where it is trained and used; None: CUDA where there is. progress: called with (done, all) steps of training.
    Raises UserError where the folder cannot be written.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = folder or default_folder() / "features"
    settings = {"version": VERSION, "data": data.fingerprint, "labels": use_labels, "samples": samples, "seed": seed}
    key = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=12).hexdigest()
    stem = folder / f"classifier-{key}"
    shape = (data.spec.shape[0], data.spec.shape[1], data.spec.shape[2])
    found = _read(stem, shape)
    if found is None:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)  # before a minute's work, not after it
        # Evaluation may run inside of no_grad or inference_mode; learning needs gradients all the same.
        with torch.inference_mode(False), torch.enable_grad():
            network, learnt = _learn(data, use_labels, samples, seed, device, progress)
        with _writable(folder):
            _write(stem, network, learnt, settings)
        found = network, learnt
    return ClassifierFeatures(*found, shape, device)


def _learn(
    data: Dataset, use_labels: bool, samples: int | None, seed: int, device: torch.device, progress: Tick | None
) -> tuple[CompactNetwork, Learnt]:
    """The network that these images allow."""
    images, labels = _pool(data, seed)
    images, labels = images.to(device), None if labels is None else labels.to(device)
    count, classes = len(images), tuple(data.spec.classes)
    reason = _objection(labels, classes) if use_labels else "labels were left out"
    with full_precision(device):
        if count < FEWEST:
            network = _untrained(images, seed)
            learnt = Learnt("nothing", f"{count} {'image is' if count == 1 else 'images are'} too few", (), None, count)
        else:
            learnt = Learnt("views", reason, (), None, count)
            if not reason and labels is not None:
                network, accuracy, something = learn_labels(
                    images, labels, len(classes), samples=samples, seed=seed, progress=progress
                )
                if something:
                    learnt = Learnt("labels", "", classes, accuracy, count)
                else:
                    learnt = Learnt("views", f"labels not learnable, {100 * accuracy:.0f} % held out", (), None, count)
            if learnt.taught == "views":
                network = learn_views(images, samples=samples, seed=seed, progress=progress)
        settle(network)
        if learnt.taught != "nothing":  # of a handful of images, the moments of changed views say more
            standardise(network, images)
    return network.cpu(), learnt


def _objection(labels: Tensor | None, classes: tuple[str, ...]) -> str:
    """Why these labels teach nothing, in a few words; empty where they do."""
    if labels is None or not classes:
        return "no labels"
    if labels.is_floating_point():
        return "labels are no classes"
    blank = torch.tensor([not name for name in classes], device=labels.device)
    known = (labels >= 0) & (labels < len(classes))
    missing = int((~known).sum()) + int(blank[labels[known]].sum())
    if missing:
        return f"{missing} of {len(labels)} images have no label"
    used = int((torch.bincount(labels) > 0).sum())
    if used < 2:
        return "one label"
    if len(labels) < PER_LABEL * used:
        return f"{used} labels for {len(labels)} images"
    return ""


def _pool(data: Dataset, seed: int) -> tuple[Tensor, Tensor | None]:
    """The images to learn from, uint8 (N, C, H, W) at the size that the network sees, and their labels (N,)."""
    shape = (data.spec.shape[0], data.spec.shape[1], data.spec.shape[2])
    size = working_size(shape)
    most = POOL // (shape[0] * size[0] * size[1])
    chosen = torch.arange(len(data))
    if len(data) > most:
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    images, labels = [], []
    for indices in chosen.split(CHUNK):
        batch = data.batch(indices, augment=False)
        images.append(to_bytes(batch["data"], size))
        labels.append(batch["label"].cpu() if "label" in batch else None)
    known = [piece for piece in labels if piece is not None]
    return torch.cat(images), torch.cat(known) if len(known) == len(labels) else None


def _untrained(images: Tensor, seed: int) -> CompactNetwork:
    """Random weights; norms know what changed views of the images look like."""
    generator = torch.Generator().manual_seed(seed)
    network = CompactNetwork((images.shape[1], images.shape[2], images.shape[3]), 0)
    draw_weights(network, generator)
    network.to(images.device).train()
    with torch.no_grad():
        for _ in range(30):  # running averages take a tenth of every batch
            chosen = torch.randint(len(images), (32,), generator=generator).to(images.device)
            network(view(from_bytes(images[chosen]), generator))
    return network


def _write(stem: Path, network: CompactNetwork, learnt: Learnt, settings: dict[str, Any]) -> None:
    """Weights first, the record last: a record that names the digest of its weights says that both are whole."""
    content = safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
    write_whole(stem.with_suffix(".safetensors"), content)
    digest = hashlib.blake2b(content).hexdigest()
    write_json(stem.with_suffix(".json"), {**asdict(learnt), "settings": settings, "weights": digest})


def _read(stem: Path, shape: tuple[int, int, int]) -> tuple[CompactNetwork, Learnt] | None:
    """The network kept at `stem`, or None where there is none or it is damaged."""
    try:
        record = json.loads(stem.with_suffix(".json").read_text())
        content = stem.with_suffix(".safetensors").read_bytes()
        if record["weights"] != hashlib.blake2b(content).hexdigest():
            return None
        accuracy = None if record["accuracy"] is None else float(record["accuracy"])
        classes = tuple(str(name) for name in record["classes"])
        learnt = Learnt(str(record["taught"]), str(record["reason"]), classes, accuracy, int(record["images"]))
        network = CompactNetwork((shape[0], *working_size(shape)), len(classes))
        network.load_state_dict(safetensors.torch.load(content))
        settle(network)
        return network, learnt
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError):
        return None


def _digest(network: CompactNetwork, shape: tuple[int, int, int]) -> str:
    """Of the weights, and of the shape of the images that decides how they are resized."""
    digest = hashlib.blake2b(f"{VERSION} {shape}".encode(), digest_size=12)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "set SPARRING_CACHE to another folder"
        raise UserError(f"{folder}: trained features cannot be kept here ({error.strerror}): {remedy}") from error


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[2]} with {shape[0]} channel{'s' if shape[0] > 1 else ''}"
