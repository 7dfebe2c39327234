"""Time the way of images from a folder of files to a training step, beside a plain DataLoader in the same run.

    python benchmarks/speed/data.py                    60,000 28×28, 60,000 32×32 RGB, 4,000 JPEG photos of 256×256, 3 GB on disk; minutes
    python benchmarks/speed/data.py --smoke            hundreds of each; seconds
    python benchmarks/speed/data.py --only start --count 60000

start: a folder of class folders, opened for the first time (nothing of ours on the disk) and again. The peer reads one
epoch as scripts do: torch's DataLoader, 2 workers, PIL in `__getitem__`, batches of 64; it pays that in each epoch.
step: the share of a real training's steps (recipe dcgan, batch 64) that goes into `Dataset.batch`, with the images in
memory and mapped from the cache, and the peer's wait a batch when it feeds the same steps.
disk: batches of 64 random 64×64 RGB images from a cache file of noise, whose pages are dropped from memory before each
row (posix_fadvise DONTNEED), as they would be where the set is larger than memory; nothing else limits the memory. `ahead`
fetches while a step of --step-ms milliseconds is slept through, in place of one that computes.
Seconds are wall clock, with the CPU seconds of all processes beside them: on a machine that others use, trust those.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import sparring.api
from sparring.core.game import Batch
from sparring.data.ahead import Foreseen, MappedRows
from sparring.data.sampling import Sampler
from sparring.domains.image.data import ImageData, ImageOptions, open_images
from sparring.host import cores, processor
from sparring.recipe import load_recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist" / "train-images-idx3-ubyte.gz"
BATCH = 64


def main() -> None:
    """Run what is asked for and print a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="hundreds of images, in seconds")
    parser.add_argument("--only", default="start,step,disk", help="parts, separated by commas")
    parser.add_argument("--count", type=int, help="small images of each kind; default 60,000")
    parser.add_argument("--photos", type=int, help="photos; default 4,000")
    parser.add_argument("--disk-mb", type=int, help="of the cache file of noise; default 3,000")
    parser.add_argument("--step-ms", type=float, default=20, help="length of a step that is slept through")
    parser.add_argument("--folder", help="where to put everything; default: the system's temporary folder")
    options = parser.parse_args()
    small, few, disk = (600, 40, 60) if options.smoke else (60_000, 4_000, 3_000)
    count, photos, disk = options.count or small, options.photos or few, options.disk_mb or disk
    parts = options.only.split(",")
    warnings.filterwarnings("ignore", message=".*worker processes in total.*")
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        os.environ["SPARRING_CACHE"] = str(root / "cache")
        kinds = {
            "28×28 grey PNG": (count, lambda: grey(count), "PNG"),
            "32×32 RGB PNG": (count, lambda: shapes(count, 32), "PNG"),
            "256×256 JPEG": (photos, lambda: shapes(photos, 256), "JPEG"),
        }
        if "start" in parts:
            print(
                "\n| images | | first start, s | its CPU s | images/s | second start, s | peer's epoch, s | its CPU s | peer / first |"
            )
            print("|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
            for title, (number, make, form) in kinds.items():
                write(make(), root / "images", form)
                print(start_row(title, number, root / "images"), flush=True)
                shutil.rmtree(root / "images")
                shutil.rmtree(root / "cache")
        if "step" in parts:
            write(grey(min(count, 20_000)), root / "images", "PNG")
            steps_table(root / "images", 10 if options.smoke else 150)
        if "disk" in parts:
            disk_table(root / "noise.npy", disk, options.step_ms / 1000, 10 if options.smoke else 100)


def start_row(title: str, count: int, folder: Path) -> str:
    """First start, second start, and an epoch of the peer."""
    options = ImageOptions(source=str(folder))
    first, first_cpu, _ = timed(lambda: open_images(options))
    second, _, data = timed(lambda: open_images(options))
    assert len(data) == count
    peer, peer_cpu, _ = timed(lambda: sum(len(batch) for batch in peer_batches(folder)))
    return (
        f"| {title} | {count:,} | {first:.2f} | {first_cpu:.2f} | {count / first:,.0f} | {second:.2f} | {peer:.2f} | "
        f"{peer_cpu:.2f} | {peer / first:.2f} |"
    )


def steps_table(folder: Path, steps: int) -> None:
    """What part of a step the trainer waits for its data."""
    print("\n| data of a dcgan step, batch 64 | step, ms | of these for data, ms | share |")
    print("|---|---:|---:|---:|", flush=True)
    for title, on_device in (("in memory", True), ("mapped from the cache", False)):
        whole, waited = play(open_images(ImageOptions(source=str(folder), on_device=on_device)), steps)
        print(f"| {title} | {whole * 1e3:.1f} | {waited * 1e3:.3f} | {100 * waited / whole:.2f} % |", flush=True)
    whole, waited = play(Peer(folder, open_images(ImageOptions(source=str(folder)))), steps)
    print(f"| peer: DataLoader, 2 workers | {whole * 1e3:.1f} | {waited * 1e3:.3f} | {100 * waited / whole:.2f} % |")


def play(data: Any, steps: int) -> tuple[float, float]:
    """Median seconds of a step of the trainer, and of `data.batch` in it."""
    waits: list[float] = []
    inner = data.batch

    def batch(indices: Tensor, **options: Any) -> Batch:
        start = time.perf_counter()
        found: Batch = inner(indices, **options)
        waits.append(time.perf_counter() - start)
        return found

    data.batch = batch
    recipe = sparring.api.resolve(load_recipe("dcgan").override([f"train.steps={steps}", f"train.batch_size={BATCH}"]))
    seed_everything(0)
    game = sparring.api.open_domain("image").build_game(recipe, data.spec)
    trainer = Trainer(game, data, recipe, Engine(device="cpu"), None, say=lambda _: None)
    trainer.game.train()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        trainer.play_step()
        seconds.append(time.perf_counter() - start)
    return median(seconds[3:]), median(waits[3:])


def disk_table(file: Path, megabytes: int, step: float, batches: int) -> None:
    """Gather random batches from a file whose pages are not in memory, in several ways."""
    count = megabytes * 10**6 // (3 * 64 * 64)
    rng = np.random.default_rng(0)
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 64, 64)}
        )
        for first in range(0, count, 1000):
            stream.write(rng.integers(0, 256, (min(1000, count - first), 3, 64, 64), dtype=np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
    print(f"\n| 64 of {count:,} images of 64×64 RGB, {megabytes:,} MB on disk | wait a batch, median ms | mean ms |")
    print("|---|---:|---:|", flush=True)

    def mapped() -> np.memmap:
        array = np.load(file, mmap_mode="c")
        assert isinstance(array, np.memmap)
        return array

    def touched(array: np.memmap) -> Callable[[Tensor], object]:
        images = torch.from_numpy(array)
        return lambda indices: images.index_select(0, indices)

    def together(array: np.memmap) -> Callable[[Tensor], object]:
        return MappedRows(array).gather

    def ahead(array: np.memmap, order: Foreseen) -> Callable[[Tensor], object]:
        rows = MappedRows(array)

        def gather(indices: Tensor) -> object:
            found = rows.gather(indices)
            following = order.after(indices)
            assert following is not None
            rows.expect(following)
            return found

        return gather

    def row(title: str, prepare: Callable[[np.memmap, Foreseen], Callable[[Tensor], object]], cold: bool) -> None:
        order = Foreseen(count, BATCH, 0)
        sampler = Sampler(count, BATCH, 0, order=order)
        array = mapped()
        gather = prepare(array, order)
        if cold:
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
        waits = []
        for _ in range(batches):
            indices = sampler.next()
            start = time.perf_counter()
            gather(indices)
            waits.append(time.perf_counter() - start)
            time.sleep(step)
        print(f"| {title} | {median(waits) * 1e3:.2f} | {1e3 * sum(waits) / len(waits):.2f} |", flush=True)

    row("peer: rows of the mapped array, touched", lambda array, _: touched(array), True)
    row("asked for together", lambda array, _: together(array), True)
    row("asked for together, a step ahead (as trainings do)", ahead, True)
    row("a step ahead, in the system's memory already", ahead, False)
    part = torch.from_numpy(mapped()[: min(count, 20_000)].copy())
    row("in-memory tensor", lambda array, _: lambda indices: part.index_select(0, indices % len(part)), False)


class PeerFiles(TorchDataset[Tensor]):
    """What a script writes: a list of paths, opened one by one."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.*"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = np.asarray(Image.open(self.paths[index]))
        image = image[..., None] if image.ndim == 2 else image
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)


def peer_batches(folder: Path) -> Iterator[Tensor]:
    """An epoch of the peer."""
    yield from DataLoader(PeerFiles(folder), BATCH, shuffle=True, num_workers=2, drop_last=False)


class Peer:
    """The peer's batches, in the form that the trainer asks for."""

    def __init__(self, folder: Path, like: ImageData) -> None:
        self.folder, self.spec, self.fingerprint, self.broken = folder, like.spec, like.fingerprint, like.broken
        self.batches = peer_batches(folder)

    def __len__(self) -> int:
        return self.spec.count

    def to(self, device: torch.device) -> Peer:
        return self

    def batch(self, indices: Tensor) -> Batch:
        found = next(self.batches, None)
        if found is None or len(found) < len(indices):
            self.batches = peer_batches(self.folder)
            found = next(self.batches)
        return Batch(data=found)


def grey(count: int) -> Iterator[NDArray[np.uint8]]:
    """MNIST where it is there, else shapes of the same size."""
    if MNIST.exists():
        pixels = np.frombuffer(gzip.decompress(MNIST.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)
        return (pixels[index % len(pixels)] for index in range(count))
    return (image[..., 0] for image in shapes(count, 28))


def shapes(count: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Coloured discs on gradients, with a little grain, so that files are about as big as those of photographs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    grain = rng.integers(0, 25, (16, size, size, 3))
    for index in range(count):
        a, b, radius = rng.random(3)
        colours = rng.integers(40, 200, (2, 3))
        inside = ((x - a) ** 2 + (y - b) ** 2 < (0.1 + radius / 3) ** 2)[..., None]
        image = np.where(inside, colours[0], colours[1] * (0.5 + 0.5 * x[..., None])) + grain[index % 16]
        yield image.astype(np.uint8)


def write(images: Iterator[NDArray[np.uint8]], folder: Path, form: str) -> None:
    """Ten class folders of files."""
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for index, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, form)
        (folder / str(index % 10) / f"{index:06d}.{form.lower()}").write_bytes(stream.getvalue())


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, CPU seconds of this process and the children that have ended, and the result."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    start, before = time.perf_counter(), cpu()
    result = work()
    return time.perf_counter() - start, cpu() - before, result


def machine() -> str:
    """What the figures hold for, in a line."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{processor()}, {cores()} cores usable, "
        f"{torch.get_num_threads()} threads; torch {torch.__version__}; load before: {load}"
    )


if __name__ == "__main__":
    main()
