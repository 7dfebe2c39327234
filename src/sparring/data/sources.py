"""From what a user writes as `data.source` to a source of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparring.data.archive import ARCHIVES, open_archive, split_archive
from sparring.data.arrays import find_idx, is_idx, open_array, open_digits, open_idx
from sparring.data.folder import open_folder
from sparring.data.hub import open_hub
from sparring.data.index import open_index
from sparring.data.labelling import Asked, Wanted, label_by_texts
from sparring.data.scans import has_scans, open_scans
from sparring.data.shards import is_shards, open_shards
from sparring.data.source import ImageSource
from sparring.data.stream_index import is_stream, open_local
from sparring.errors import UserError, nearest

INDEXES = (".csv", ".tsv", ".json", ".jsonl")


def open_source(
    reference: str,
    *,
    labels_file: str | None = None,
    labels: Asked = "auto",
    label_columns: Sequence[str] | None = None,
) -> ImageSource:
    """Open images by reference. Nothing is decoded yet.

    `digits`                  scikit-learn's 1,797 handwritten digits, 8×8
    a folder                  of images, nested as you like; sub-folders are classes where every image lies in one of
                              at least two; or a folder of MNIST-style IDX files (the training part), or of shards
                              as `prepare` writes them; or of scans (DICOM, NIfTI), see `scans.ScanSource`
    .zip .tar .tar.gz …       of such a folder; `photos.zip:train` for a folder inside
    train-images-idx3-ubyte   IDX, also .gz; the labels are found beside it by name
    .npz .npy                 arrays (N, H, W), (N, H, W, C) or (N, C, H, W): uint8, or floats in [0, 1] or [-1, 1]
    .csv .tsv .json .jsonl    paths (relative to the file) and labels
    shards/, a{000..127}.tar  local WebDataset shards (elsewhere they are streamed, see `stream_index.open_index`)
    .parquet, `hf:NAME`       through Hugging Face `datasets`; also `hf:FOLDER`, `hf:NAME@CONFIG`, `hf:NAME#SPLIT`

    labels_file: labels from elsewhere: a table of paths and labels for folders and archives, a file of the same kind
    for IDX and .npy.
    labels: what they are, `auto` by what they look like, `none` to leave them aside. label_columns: those of a table.
    Raises UserError where there is nothing that can be opened.
    """
    wanted = Wanted(labels, tuple(label_columns) if label_columns is not None else None)
    suffix = Path(reference).suffix.lower()
    if wanted.columns and not (labels_file or suffix in (*INDEXES, ".parquet") or reference.startswith("hf:")):
        raise UserError(f"{reference}: is no table, whose columns data.label_columns could name: leave it out")
    is_hub = reference.startswith("hf:") or suffix == ".parquet"
    if labels_file and (reference == "digits" or is_hub or suffix in (".npz", *INDEXES)):
        raise UserError(f"{reference} brings its own labels: leave out data.labels_file")
    if reference == "digits":
        return open_digits(wanted)
    if is_hub:
        return open_hub(reference, wanted)
    if is_stream(reference):
        if labels_file:
            raise UserError(f"{reference} brings its own labels: leave out data.labels_file")
        return _as_wanted(open_local(reference), wanted)
    table = _existing(labels_file) if labels_file else None
    archive = split_archive(reference)
    if archive:
        return open_archive(reference, *archive, table, wanted)
    path = _existing(reference)
    if path.is_dir():
        return _open_directory(reference, path, table, wanted)
    if suffix in INDEXES:
        return open_index(reference, path, wanted)
    if suffix in (".npz", ".npy"):
        return open_array(reference, path, table, wanted)
    if is_idx(path):
        return open_idx(reference, path, table, wanted)
    raise UserError(
        f"{reference}: not a kind of data that is known: give a folder of images, an archive ({' '.join(ARCHIVES)}), "
        ".npz, .npy, .csv, .json, .parquet or an IDX file"
    )


def _open_directory(reference: str, path: Path, labels: Path | None, wanted: Wanted) -> ImageSource:
    if is_shards(path):
        return _as_wanted(open_shards(reference, path), wanted)
    idx = find_idx(path)
    if idx:
        return open_idx(reference, idx, labels, wanted)
    try:
        return open_folder(reference, path, labels, wanted)
    except UserError:
        # No images: a folder of Parquet files or of scans is what else it may be.
        if labels is None and any(path.glob("*.parquet")):
            return open_hub(f"hf:{path}", wanted)
        if labels is None and has_scans(path):
            return open_scans(reference, path, wanted)
        raise


def _as_wanted(source: ImageSource, wanted: Wanted) -> ImageSource:
    """A source whose labels are texts, with these as the recipe wants them."""
    labelling = label_by_texts(source.name, source.labels, wanted)
    source.labels, source.vectors = labelling.texts, labelling.vectors
    return source


def _existing(reference: str) -> Path:
    path = Path(reference).expanduser()
    if path.exists():
        return path
    try:
        hint = nearest(path.name, [sibling.name for sibling in path.parent.iterdir()])
    except OSError:
        hint = f" (nor is there a folder {path.parent})"
    raise UserError(f"{reference}: no such file or folder{hint}; is the path right?")
