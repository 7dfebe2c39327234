"""Time images streamed from WebDataset shards, beside images in memory and beside the `webdataset` package.

    python benchmarks/speed/stream.py                   40,000 images of 32×32 RGB and 4,000 of 128×128; minutes
    python benchmarks/speed/stream.py --smoke           hundreds of each; seconds

memory: batches of 64 gathered from all images in memory, in random order.
streamed, first epoch: from local tars, or from a web server on this machine, with nothing decoded yet.
streamed, later epochs: what is streamed is decoded in the cache by then.
webdataset: one epoch as its manual shows it: shuffled shards, a shuffle buffer of 2,000, PIL, batches of 64 by torch's
DataLoader with 2 workers; it decodes in each epoch. Without the package (pip install webdataset), the same loop over tarfile.
waiting: the share of an epoch's time that steps of --step-ms milliseconds, slept through, wait for their batch.

Every batch ends as float32 in [-1, 1]. Seconds are wall clock; the CPU seconds are those of all processes, of which the
columns of streaming hold the fetching and the decoding, and not the web server, which is a process of its own.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import platform
import random
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sparring.data.cache import build_cache
from sparring.data.sampling import Sampler
from sparring.data.sources import open_source
from sparring.data.tar_shards import Encoded, write_tars
from sparring.domains.image.data import ImageData, ImageOptions, open_images

BATCH = 64
Batches = Iterator[Tensor]


def main() -> None:
    """Run both sizes and print a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="hundreds of images, in seconds")
    parser.add_argument("--small", type=int, help="images of 32×32; default 40,000")
    parser.add_argument("--large", type=int, help="images of 128×128; default 4,000")
    parser.add_argument("--step-ms", type=float, default=20, help="length of a step that is slept through")
    options = parser.parse_args()
    small, large = (800, 200) if options.smoke else (40_000, 4_000)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}")
    for side, count in ((32, options.small or small), (128, options.large or large)):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), side, count, options.step_ms / 1000)


def measure(folder: Path, side: int, count: int, step: float) -> None:
    """All rows for one size of images."""
    (folder / "shards").mkdir()
    index = write_tars(folder / "shards", pictures(side, count), ["0", "1"], shard_samples=max(50, count // 32))
    size = sum(shard.size for shard in index.shards)
    print(
        f"\n{count:,} images of {side}×{side} RGB in {len(index.shards)} tars of {size / len(index.shards) / 2**20:.1f} MiB"
    )
    print(f"{'':34} {'images/s':>10} {'of memory':>10} {'CPU ms/image':>13}")
    source = str(folder / "shards")
    memory = ImageData(build_cache(open_source(source), folder=folder / "whole"), on_device=True)
    memory.to(torch.device("cpu"))
    best = report("memory", lambda: epoch(memory), count, None)
    streams: dict[str, Callable[[], Any]] = {}
    with web_server(folder / "shards") as url:
        for name, place in (("local tars", source), ("web server", url)):
            options = ImageOptions(source=place, cache=str(folder / name))
            opened: list[Any] = []

            def first(opened: list[Any] = opened, options: ImageOptions = options) -> Batches:
                opened.append(open_images(options))
                yield from epoch(opened[0])

            report(f"streamed, first epoch, {name}", first, count, best, close=lambda o=opened: o[0].close())
            streams[name] = partial(open_images, options)
        for name, reopen in streams.items():
            data = reopen()
            report(f"streamed, later epochs, {name}", lambda data=data: epoch(data, 1), count, best)
            data.close()
        files = [shard.location for shard in index.shards]
        report(*peer(files), count, best)
        waiting = {"memory": memory, "later epochs": streams["web server"]()}
        waiting["first epoch, web server"] = open_images(ImageOptions(source=url, cache=str(folder / "cold")))
        for name, data in waiting.items():
            print(f"waiting, {name:25} {share_waited(data, step):10.1%} of steps of {step * 1000:.0f} ms")
    for name, data in waiting.items():
        if name != "memory":
            data.close()


def epoch(data: Any, number: int = 0) -> Batches:
    """The batches of an epoch."""
    order = data.order(BATCH, 0)
    sampler = Sampler(len(data), BATCH, 0, order=order)
    sampler.position = number * (len(data) // BATCH) * BATCH
    for _ in range(len(data) // BATCH):
        yield data.batch(sampler.next())["data"]


def share_waited(data: Any, step: float) -> float:
    """How much of an epoch at `step` seconds a step is spent waiting for data; the first batch is not counted."""
    batches = epoch(data)
    next(batches)
    began, waited = time.perf_counter(), 0.0
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - start
        if batch is None:
            return waited / (time.perf_counter() - began)
        time.sleep(step)


def report(
    name: str,
    batches: Callable[[], Batches],
    count: int,
    best: float | None,
    close: Callable[[], None] | None = None,
) -> float:
    """Print a row; returns images a second. close: ends the processes whose CPU seconds belong to the row."""
    cpu, start = cpu_seconds(), time.perf_counter()
    seen = sum(len(batch) for batch in batches())
    seconds = time.perf_counter() - start
    if close:
        close()
    assert abs(seen - count) < 3 * BATCH, (seen, count)
    rate = seen / seconds
    share = "" if best is None else f"{rate / best:.2f}×"
    print(f"{name:34} {rate:10,.0f} {share:>10} {(cpu_seconds() - cpu) / seen * 1000:13.3f}", flush=True)
    return rate


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def pictures(side: int, count: int) -> Iterator[Encoded]:
    """Smooth patterns with a little noise, as PNG: about as large as such files are."""
    chance = np.random.default_rng(0)
    across = np.linspace(0, 6, side)
    for number in range(count):
        phase = chance.uniform(0, 6, (3, 2))
        waves = [np.add.outer(np.sin(across + row), np.cos(across + column)) for row, column in phase]
        image = 127 + 50 * np.stack(waves, -1) + chance.normal(0, 4, (side, side, 3))
        buffer = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
        yield Encoded(buffer.getvalue(), "png", (side, side, 3), str(number % 2))


class web_server:  # noqa: N801  (used as `with web_server(folder) as url`)
    """A folder on a port of this machine, served by a process of its own."""

    def __init__(self, folder: Path) -> None:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self.process.start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join()


def peer(files: list[str]) -> tuple[str, Callable[[], Batches]]:
    """The package as its manual shows it, or the same by hand."""
    try:
        import webdataset
    except ImportError:
        return "tarfile + PIL, 2 workers", lambda: loaded(ByHand(files))
    data = webdataset.WebDataset(files, shardshuffle=len(files), empty_check=False).shuffle(2000).decode("pil")
    return f"webdataset {webdataset.__version__}, 2 workers", lambda: loaded(data.to_tuple("png", "cls").map(to_tensor))


def loaded(data: Any) -> Batches:
    """Batches by torch's DataLoader."""
    for images, _ in DataLoader(data, batch_size=BATCH, num_workers=2, persistent_workers=False):
        yield images


def to_tensor(sample: Any) -> tuple[Tensor, int]:
    """A PIL image as float32 (C, H, W) in [-1, 1]."""
    image, label = sample
    array = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return array.float().div_(127.5).sub_(1.0), int(label)


class ByHand(IterableDataset[tuple[Tensor, int]]):
    """Shards dealt to workers and read in random order, samples from a shuffle buffer of 2,000."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """An epoch's part of one worker."""
        info = get_worker_info()
        own = self.files[info.id :: info.num_workers] if info else list(self.files)
        random.shuffle(own)
        buffer: list[tuple[bytes, bytes]] = []
        for file in own:
            for sample in self.samples(file):
                buffer.append(sample)
                if len(buffer) > 2000:
                    place = random.randrange(len(buffer))
                    buffer[place], buffer[-1] = buffer[-1], buffer[place]
                    yield self.decoded(buffer.pop())
        random.shuffle(buffer)
        yield from map(self.decoded, buffer)

    def samples(self, file: str) -> Iterator[tuple[bytes, bytes]]:
        """The PNG and the class of each sample."""
        with tarfile.open(file) as archive:
            image = b""
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                if member.name.endswith(".png"):
                    image = content.read()
                else:
                    yield image, content.read()

    def decoded(self, sample: tuple[bytes, bytes]) -> tuple[Tensor, int]:
        """A sample as a tensor and a number."""
        return to_tensor((Image.open(io.BytesIO(sample[0])), sample[1]))


if __name__ == "__main__":
    main()
