"""What more processes bring: measured from one to two on this machine, and a model of many GPUs.

    python benchmarks/speed/scaling.py                     one thread a process; a few minutes, wants two idle cores
    python benchmarks/speed/scaling.py --smoke             tiny, to see that it runs
    python benchmarks/speed/scaling.py --model             the table of docs/scaling.md

Measured, for each case, in samples/s: one process alone; two trainings that know nothing of each other, at the same time
(which is the ideal: two cores share caches, memory and clock, whatever they do); and one training of two processes, once
with the batch doubled (weak scaling: each process has as much work as before) and once with the batch of one process (strong
scaling: half the work each, beside two trainings with half the batch each). The median block of steps counts, of rounds that take
turns the best: what else the machine does can only slow one down. Bytes and calls are those that reach torch.distributed; the
time of the all-reduce is that of the same bytes with nothing else to do.

The model's inputs are counted (parameters, bytes, FLOPs of a sample's step) or published (bandwidths), and two are assumed:
the share of a GPU's peak that a step reaches, and what a launch-bound step takes at least. Every column says which.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from sparring.core.game import Batch, DataSpec, Game
from sparring.domains import open_domain
from sparring.host import cores, processor
from sparring.recipe import Machine, Recipe, load_recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

BLOCKS = 9
THREADS = Machine(precision="32", threads=1, channels_last=False, compile=False)

# ---- measured -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """recipe, keys: what is played. batch: of one process. steps: of a block."""

    recipe: str
    keys: tuple[str, ...]
    batch: int
    steps: int


CASES = {
    "dcgan-28": Case("dcgan", ("data.size=28",), 64, 4),
    "default-32": Case("default", ("data.size=32",), 32, 4),
    "wgan-gp-28": Case("wgan-gp", ("data.size=28",), 32, 2),
}
SMOKE = {"dcgan-8": Case("dcgan", ("model.generator.width=8", "model.discriminator.width=8"), 16, 4)}


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Samples/s of each way, and what two processes send."""
    ways: dict[str, Callable[[], list[dict[str, float]]]] = {
        "alone": lambda: launch(case, [1], case.batch),
        "ideal weak": lambda: launch(case, [1, 1], case.batch),
        "ideal strong": lambda: launch(case, [1, 1], case.batch // 2),
        "weak": lambda: launch(case, [2], 2 * case.batch),
        "strong": lambda: launch(case, [2], case.batch),
    }
    best: dict[str, float] = {}
    sent: dict[str, float] = {}
    for _ in range(rounds):
        for way, play in ways.items():
            results = play()
            # Trainings side by side count together; the processes of one training each tell of the whole of it.
            rate = sum(each["rate"] for each in results) if way.startswith("ideal") else results[0]["rate"]
            best[way] = max(best.get(way, 0.0), rate)
            sent |= results[0] if way == "weak" else {}
    return {**best, **{key: sent[key] for key in ("bytes", "calls", "seconds", "step")}}


def launch(case: Case, worlds: Sequence[int], batch: int) -> list[dict[str, float]]:
    """Trainings of so many processes each, all at the same time, a core a process; a result for each process."""
    together = get_context("fork").Barrier(sum(worlds))
    with tempfile.TemporaryDirectory() as folder:
        children, core = [], 0
        for world in worlds:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            for rank in range(world):
                target = Path(folder) / f"{core}.json"
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        pin(core)
                        target.write_text(json.dumps(process(case, batch, rank, world, port, together)))
                        code = 0
                    except Exception:
                        traceback.print_exc()
                    finally:
                        sys.stderr.flush()
                        os._exit(code)
                children.append(child)
                core += 1
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(codes):
            raise SystemExit("a process failed")
        return [json.loads((Path(folder) / f"{number}.json").read_text()) for number in range(core)]


def pin(core: int) -> None:
    """Keep this process on a core of its own, where there are enough."""
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[core % len(usable)]})


def process(case: Case, batch: int, rank: int, world: int, port: int, together: Barrier) -> dict[str, float]:
    """One process of a training: rate of the whole training in samples/s, and what a step sends and takes.

    together: all that are launched begin to be timed when the last is ready.
    """
    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {"TORCHELASTIC_RUN_ID": "scaling", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    recipe = load_recipe(case.recipe).override([*case.keys, f"train.batch_size={batch}", "train.steps=1000"])
    engine = Engine(device="cpu", machine=THREADS)
    domain = open_domain(recipe.domain)
    data = domain.open_data(recipe.data, None)
    seed_everything(0)
    trainer = Trainer(domain.build_game(recipe, data.spec), data, recipe, engine, None, say=lambda text: None)
    trainer.game.train()
    sent = Sent()
    with engine.settings.applied(engine.device):
        for _ in range(2):
            trainer.play_step()
        together.wait()
        blocks = []
        for _ in range(BLOCKS):
            start = time.perf_counter()
            for _ in range(case.steps):
                trainer.play_step()
            trainer.read_losses()
            blocks.append((time.perf_counter() - start) / case.steps)
        step = statistics.median(blocks)
        result = {"rate": batch / step, "step": step, "bytes": 0.0, "calls": 0.0, "seconds": 0.0}
        if world > 1:
            with sent:
                trainer.play_step()
            result |= {"bytes": float(sum(sent.sizes)), "calls": float(len(sent.sizes)), "seconds": sent.again()}
    engine.close()
    return result


class Sent:
    """Inside, notes the bytes of each collective call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.originals: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Sent:
        for name in ("all_reduce", "broadcast"):
            self.originals[name] = original = getattr(dist, name)

            def noted(tensor: torch.Tensor, *args: Any, original: Callable[..., Any] = original, **options: Any) -> Any:
                self.sizes.append(tensor.numel() * tensor.element_size())
                return original(tensor, *args, **options)

            setattr(dist, name, noted)
        return self

    def __exit__(self, *error: object) -> None:
        for name, original in self.originals.items():
            setattr(dist, name, original)

    def again(self, repeats: int = 5) -> float:
        """Seconds that all-reducing the same bytes takes when there is nothing else to do: the fastest of some times."""
        tensors = [torch.ones(max(1, size // 4)) for size in self.sizes]
        fastest = math.inf
        for _ in range(repeats):
            dist.barrier()
            start = time.perf_counter()
            for tensor in tensors:
                dist.all_reduce(tensor)
            fastest = min(fastest, time.perf_counter() - start)
        return fastest


def print_measured(cases: dict[str, Case], rounds: int) -> None:
    """The table of one and two processes."""
    print(
        f"{processor()}, {cores()} cores, torch {torch.__version__}, a thread a process, 32 bits; load {os.getloadavg()[0]:.1f}"
    )
    print("samples/s; efficiency is that of two processes over two independent trainings at the same time\n")
    titles = [
        "case",
        "batch",
        "alone",
        "2 apart",
        "2 weak",
        "eff.",
        "½ apart",
        "2 strong",
        "eff.",
        "MB/step",
        "calls",
        "ms alone",
        "ms/step",
    ]
    print("| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    for name, case in cases.items():
        found = measure(case, rounds)
        cells = [
            name, case.batch, f"{found['alone']:.0f}",
            f"{found['ideal weak']:.0f}", f"{found['weak']:.0f}", f"{found['weak'] / found['ideal weak']:.1%}",
            f"{found['ideal strong']:.0f}", f"{found['strong']:.0f}", f"{found['strong'] / found['ideal strong']:.1%}",
            f"{found['bytes'] / 1e6:.2f}", f"{found['calls']:.0f}", f"{found['seconds'] * 1e3:.2f}", f"{found['step'] * 1e3:.1f}",
        ]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


# ---- modelled -----------------------------------------------------------------------------------------------------------

PEAK = 989e12  # FLOP/s of an H100 SXM in dense bf16 products (NVIDIA's data sheet)
REACHED = 0.25  # assumed: the share of it that a step reaches, with penalties in 32 bits and small channels
LEAST = 8e-3  # assumed: seconds of a step whose kernels are over before the next is launched
IN_NODE = 450e9  # bytes/s each way of a GPU's NVLink in an HGX H100 board (data sheet)
GPUS = 8  # of a node
# Between nodes: bytes/s each way of a node, and seconds of a hop.
NETWORKS = {
    "InfiniBand 400 Gb/s a GPU": (GPUS * 50e9, 5e-6),
    "InfiniBand 400 Gb/s a node": (50e9, 5e-6),
    "Ethernet 100 Gb/s a node": (12.5e9, 30e-6),
}
NVLINK_HOP = 3e-6
USED = 0.8  # assumed: the share of a link's bandwidth that collectives reach
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Network:
    """What is modelled: a recipe on colour images of a size, and the samples a GPU has of each batch."""

    recipe: str
    size: int
    keys: tuple[str, ...]
    batch: int


MODELLED = {
    "default-32": Network("default", 32, (), 256),
    "dcgan-64": Network("dcgan", 64, (), 128),
    "21 M, 64 px": Network("default", 64, ("model.generator.width=160", "model.discriminator.width=160"), 64),
    "158 M, 128 px": Network("default", 128, ("model.generator.width=344", "model.discriminator.width=344"), 32),
}


@dataclass(frozen=True)
class Cost:
    """parameters: of both networks. sent: bytes of gradients a step. calls: all-reduces a step. flops: of a sample's step."""

    parameters: int
    sent: int
    calls: int
    flops: float


class Everything:
    """For the counter, in place of what follows modules: its hooks cannot stand gradients by samples."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def count(network: Network) -> Cost:
    """Build the game and play its turns on two samples, counting."""
    recipe: Recipe = load_recipe(network.recipe).override(list(network.keys))
    spec = DataSpec((3, network.size, network.size), (), 1000)
    game: Game = open_domain("image").build_game(recipe, spec).train()
    players = {
        name: [each for each in module.parameters() if each.requires_grad] for name, module in game.players().items()
    }
    batch, sent, calls = Batch(data=torch.zeros(2, *spec.shape)), 0, 0
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Everything()
    with counter:
        for turn in game.turns(0):
            own = players[turn.player]
            game.loss(turn, batch, 0).total.backward(inputs=own)
            sent += 4 * sum(each.numel() for each in own)
            # The gradients with the figures; in the discriminator's turn two more, for where its logits stand.
            calls += 3 if turn.player == "discriminator" else 1
    parameters = sum(each.numel() for own in players.values() for each in own)
    return Cost(parameters, sent, calls + 2, counter.get_total_flops() / 2)  # + buffers, + whether to stop


def compute(cost: Cost, batch: int) -> float:
    """Seconds of a GPU's step without the others."""
    return max(LEAST, cost.flops * batch / (PEAK * REACHED))


def communicate(cost: Cost, gpus: int, bandwidth: float, hop: float) -> float:
    """Seconds of a step's all-reduces over so many GPUs in nodes of eight.

    A ring sends 2(W − 1)/W of the bytes over each of its links, of which the slowest counts; a call takes as long as a tree
    is high, up and down, however little it sends.
    """
    nodes = math.ceil(gpus / GPUS)
    # A node's GPUs run as many rings as it has links: the bytes of all leave it by its network together.
    slowest = min(IN_NODE, bandwidth) if nodes > 1 else IN_NODE
    wait = 2 * (math.log2(min(gpus, GPUS)) * NVLINK_HOP + math.log2(nodes) * hop)
    return 2 * (gpus - 1) / gpus * cost.sent / (slowest * USED) + cost.calls * wait


def print_model() -> None:
    """The table of many GPUs."""
    costs = {name: count(network) for name, network in MODELLED.items()}
    print(
        "| networks | parameters | MB sent a step | calls | GFLOP a sample's step | samples a GPU | step of one GPU |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, cost in costs.items():
        batch = MODELLED[name].batch
        alone = compute(cost, batch)
        print(
            f"| {name} | {cost.parameters / 1e6:.2f} M | {cost.sent / 1e6:.1f} | {cost.calls} | {cost.flops / 1e9:.2f} | {batch} "
            f"| {alone * 1e3:.1f} ms{' (launch-bound)' if alone == LEAST else ''} |"
        )
    for label, (bandwidth, hop) in NETWORKS.items():
        print(f"\n{label}: efficiency (samples/s over W times those of one GPU), nothing overlapped\n")
        print("| networks | " + " | ".join(map(str, COUNTS)) + " |")
        print("|---|" + "---|" * len(COUNTS))
        for name, cost in costs.items():
            alone = compute(cost, MODELLED[name].batch)
            shares = [alone / (alone + communicate(cost, gpus, bandwidth, hop)) for gpus in COUNTS]
            print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    print("\nSmallest batch of a GPU at which 1,024 of them reach 90 %, where a step is as long as its arithmetic:\n")
    print("| networks | " + " | ".join(NETWORKS) + " |")
    print("|---|" + "---|" * len(NETWORKS))
    for name, cost in costs.items():
        cells = []
        for bandwidth, hop in NETWORKS.values():
            needed = 9 * communicate(cost, 1024, bandwidth, hop)
            cells.append("any" if needed <= LEAST else str(math.ceil(needed * PEAK * REACHED / cost.flops)))
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="store_true", help="print the model of many GPUs")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", choices=CASES, help="one case")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.model:
        print_model()
    elif options.smoke:
        print_measured(SMOKE, 1)
    else:
        print_measured({options.only: CASES[options.only]} if options.only else CASES, options.rounds)


if __name__ == "__main__":
    main()
