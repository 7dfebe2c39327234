"""`data check`, `data prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.words import Json, size_of
from sparring.terminal import print_json, show_findings, tell


def check(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, an archive, an array file, hf:NAME, …")],
    domain: Annotated[
        str, typer.Option(help="image, vector, series, or translation: partners, sizes, maps, masks, leaks.")
    ] = "image",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Of translations: data whose outputs must not be among these, a test set say."
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of translations and tables: a key of the recipe's data section."),
    ] = None,
    json: Json = False,
) -> None:
    """Find what is wrong with a data set: broken files, duplicates, blanks, outliers, wrong labels."""
    from sparring import api
    from sparring.recipe import assigned
    from sparring.training.progress import reading_bar

    options = assigned(set or [], "data")
    if against is not None:
        options["against"] = against
    with reading_bar("checking") as progress:
        report = api.check_data(source, domain=domain, progress=progress, **options)
    if json:
        print_json(report.plain())
    else:
        show_findings(report.plain())


def prepare(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The data set; it is never changed.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new data set to write.")],
    size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Resize to this. Default: as it is.")] = None,
    fit: Annotated[str, typer.Option(metavar="crop|pad|stretch", help="How to reach another shape.")] = "crop",
    channels: Annotated[
        int | None, typer.Option(min=1, max=4, help="1 grey, 2 grey+alpha, 3 RGB, 4 RGBA. Default: as it is.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Leave out what `data check` would remove; it is copied to OUT-quarantine.")
    ] = False,
    keep_labels: Annotated[
        bool,
        typer.Option(
            "--keep-labels", help="With --clean: keep images whose labels are doubted; most are only unusual."
        ),
    ] = False,
    format: Annotated[str, typer.Option(metavar="folder|npz|shards|tar", help="What to write.")] = "folder",
    shards: Annotated[
        bool, typer.Option("--shards", help="Write WebDataset tars to stream from: the same as --format tar.")
    ] = False,
    shard_mb: Annotated[int, typer.Option(min=1, metavar="MB", help="The size of a tar at most.")] = 256,
    domain: Annotated[
        str, typer.Option(help="image, vector, or translation: maps from annotations in COCO's JSON.")
    ] = "image",
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Of translations: where the annotated photographs are.")
    ] = None,
    json: Json = False,
) -> None:
    """Resize, crop, convert, clean and write a data set anew, in files or in a fast format."""
    from sparring import api
    from sparring.training.progress import reading_bar

    wanted = {
        "size": size_of(size),
        "fit": fit,
        "channels": channels,
        "clean": clean,
        "labels": not keep_labels,
        "format": "tar" if shards else format,
        "shard_mb": shard_mb,
        "images": images,
    }
    usual = {"fit": "crop", "clean": False, "labels": True, "format": "folder", "shard_mb": 256}
    # What is as usual goes unsaid: not all kinds of data have it.
    given = {key: value for key, value in wanted.items() if value is not None and value != usual.get(key)}
    with reading_bar("preparing") as progress:
        result = api.prepare_data(source, out, domain=domain, progress=progress, **given)
    if json:
        print_json(result.plain())
    else:
        for key, value in result.plain().items():
            tell(f"{key}: {value}")
