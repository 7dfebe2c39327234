"""Time a training step: the loop that tutorials have, this package's trainer, the loop without the trainer, the machine's peak.

    python benchmarks/speed/step.py                            every case, on all cores; minutes
    python benchmarks/speed/step.py --only dcgan-28 --threads 1
    python benchmarks/speed/step.py --profile dcgan-28         where the time of our step goes, by operator
    python benchmarks/speed/step.py --smoke                    tiny, in seconds

All loops play the same networks at the same batch size, side by side in one process: a block of steps each, in turn, several
rounds; the median block counts. "textbook" is the loop of tutorials: two generator passes a step, cross entropy on a
sigmoid, Adam parameter by parameter, 32-bit floats, PNG files through a DataLoader with two workers, `.item()` each step
(for WGAN-GP and `default` the paper's own algorithm in that style). "bare" is what our step must do and no more: the
game's losses, backward, optimiser, average. "trainer" is what users get, recording and checks included.

FLOPs are those of our step, matrix products and convolutions, counted by torch.utils.flop_counter; the peak is that of square
matrix products in the same precision at the same moment.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import flop_registry

from sparring.api import resolve
from sparring.core.adversarial import AdversarialGame
from sparring.core.ema import Average
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.host import processor
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.autotune import tune
from sparring.training.engine import Engine, seed_everything
from sparring.training.follow import Recording
from sparring.training.progress import Progress
from sparring.training.settings import HALVES
from sparring.training.trainer import Trainer

CASES = {
    "dcgan-28": ("dcgan", 28, 1),
    "dcgan-64": ("dcgan", 64, 3),
    "default-32": ("default", 32, 3),
    "wgan-gp-28": ("wgan-gp", 28, 1),
}
PEAK_SIDE = 2048

Play = Callable[[int], None]


def main() -> None:
    """Measure what is asked for and print a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--threads", type=int, help="at most; none: all cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a block, about")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. machine.precision=32; none: as tuned"
    )
    parser.add_argument("--profile", action="store_true", help="where the time of the trainer's step goes, by operator")
    parser.add_argument("--smoke", action="store_true", help="few steps: shows that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    print(f"{processor()}, {torch.get_num_threads()} threads at most, torch {torch.__version__}; batches of 64\n")
    print(
        "| case | settings | textbook ms | bare ms | trainer ms | textbook : trainer | trainer over bare | data wait "
        "| GFLOP a step | GFLOP/s | peak GFLOP/s | of the peak |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for name in options.only.split(","):
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """One line of the table."""
    base, size, channels = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "images", size, channels)
        recipe = load_recipe(base).override(
            ["train.steps=100000", "evaluate.metric=null", f"data.cache={root / 'cache'}", *options.set],
            data={"source": str(root / "images")},
        )
        trainer = build_trainer(resolve(recipe), root / "run")
        if options.profile:
            profile(trainer)
            return
        waits: list[float] = []
        ours = trainer_loop(trainer, root / "run", waits)
        loops = {"textbook": textbook_loop(trainer, root / "images"), "bare": bare_loop(trainer), "trainer": ours}
        flops = count_flops(trainer)
        times: dict[str, list[float]] = {loop: [] for loop in loops}
        peaks: list[float] = []
        for play in loops.values():
            play(2)
        waits.clear()
        for _ in range(2 if options.smoke else options.rounds):
            peaks.append(gemm_peak(trainer.engine.settings.precision))
            for loop, play in loops.items():
                with ExitStack() as inside:
                    if loop != "textbook":
                        inside.enter_context(trainer.ready_to_play())
                    known = statistics.median(times[loop]) if times[loop] else timed(play, 2)
                    count = 2 if options.smoke else max(3, round(options.seconds / known))
                    times[loop].append(timed(play, count))
        middle = {loop: statistics.median(values) * 1000 for loop, values in times.items()}
        rate, peak = flops / middle["trainer"] / 1e6, statistics.median(peaks)
        wait = statistics.median(waits) * 1000 / middle["trainer"]
        print(
            f"| {name} | {trainer.engine.settings} | {middle['textbook']:.1f} | {middle['bare']:.1f} | {middle['trainer']:.1f} "
            f"| {middle['textbook'] / middle['trainer']:.2f} | {middle['trainer'] / middle['bare'] - 1:+.1%} | {wait:.1%} "
            f"| {flops / 1e9:.2f} | {rate:.0f} | {peak:.0f} | {rate / peak:.0%} |",
            flush=True,
        )


def build_trainer(recipe: Recipe, folder: Path) -> Trainer:
    """What `sparring train` builds: data from the cache, tuned settings, a game from the seed."""
    domain = open_domain(recipe.domain)
    data = domain.open_data(recipe.data)
    engine = Engine(device="cpu", machine=recipe.machine)

    def rehearsal() -> Trainer:
        return Trainer(domain.build_game(recipe, data.spec), data, recipe, engine, None)

    engine.use(tune(rehearsal, recipe, engine))
    seed_everything(recipe.train.seed)
    run = Run.create(folder, recipe, data.spec, data.fingerprint)
    return Trainer(domain.build_game(recipe, data.spec), data, recipe, engine, run)


def trainer_loop(trainer: Trainer, folder: Path, waits: list[float]) -> Play:
    """The trainer with its record and its progress bar; how long it waits for data goes to `waits`, by the step."""
    recording = Recording(Run(folder), Progress(None, quiet=True), dict)
    trainer.listeners = [recording]
    trainer.game.train()
    trainer.tell("at_start")
    fetch, fetched = trainer.data.batch, [0.0]

    def batch(*args: Any, **options: Any) -> Batch:
        start = time.perf_counter()
        result = fetch(*args, **options)
        fetched[0] += time.perf_counter() - start
        return result

    trainer.data.batch = batch  # type: ignore[method-assign]

    def play(steps: int) -> None:
        fetched[0] = 0.0
        for _ in range(steps):
            trainer.play_step()
            trainer.tell("after_step")
        waits.append(fetched[0] / steps)

    return play


def bare_loop(trainer: Trainer) -> Play:
    """The game's losses, backward, optimiser, average on the same data, and nothing else."""
    game = copy.deepcopy(trainer.game)
    twin = Trainer(game, trainer.data, trainer.recipe, trainer.engine, None)
    average = Average(game.averaged(), trainer.recipe.train.ema.half_life, trainer.recipe.train.ema.warmup)
    game.train()

    def play(steps: int) -> None:
        for step in range(steps):
            batch: Batch | None = None
            for turn in game.turns(step):
                player = twin.players[turn.player]
                if turn.fresh or batch is None:
                    batch = twin.data.batch(twin.sampler.next())
                player.optimizer.zero_grad(set_to_none=True)
                with twin.engine.autocast():
                    losses = game.loss(turn, batch, step)
                losses.total.backward(inputs=player.parameters)
                player.optimizer.step()
            average.update(64, 64 * step)

    return play


class Pictures(Dataset[Tensor]):
    """PNG files, decoded when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        pixels = torch.from_numpy(np.array(Image.open(self.files[index])))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return pixels.float() / 127.5 - 1


def textbook_loop(trainer: Trainer, images: Path) -> Play:
    """The loop of tutorials on copies of the same networks."""
    game = copy.deepcopy(cast(AdversarialGame, trainer.game)).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    generator, discriminator = game.generator.train(), game.discriminator.train()
    players = trainer.players
    rates = {name: player.optimizer.param_groups[0] for name, player in players.items()}
    optimizers = {
        name: optim.Adam(network.parameters(), rates[name]["lr"], rates[name]["betas"], foreach=False, fused=False)
        for name, network in (("generator", generator), ("discriminator", discriminator))
    }
    loader = DataLoader(
        Pictures(images), batch_size=64, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    source = iter(loader)
    critic_turns = trainer.recipe.train.turns.discriminator
    loss_name, penalties = trainer.recipe.loss["name"], trainer.recipe.loss["penalties"]

    def next_images() -> Tensor:
        nonlocal source
        try:
            return cast(Tensor, next(source))
        except StopIteration:
            source = iter(loader)
            return cast(Tensor, next(source))

    def squared_norms(samples: Tensor) -> Tensor:
        samples = samples.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(samples, None).sum(), samples, create_graph=True)
        return gradient.square().flatten(1).sum(1)

    def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
        on_real, on_fake = discriminator(real, None), discriminator(fake, None)
        if loss_name == "wasserstein":
            share = torch.rand(len(real), 1, 1, 1)
            norms = squared_norms(share * real + (1 - share) * fake).sqrt()
            return on_fake.mean() - on_real.mean() + penalties["wgan_gp"]["weight"] * (norms - 1).square().mean()
        if loss_name == "relativistic_pairing":
            penalty = sum(
                penalties[name]["weight"] / 2 * squared_norms(samples).mean()
                for name, samples in (("r1", real), ("r2", fake))
                if name in penalties
            )
            return F.softplus(on_fake - on_real).mean() + penalty
        ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_fake)
        cross_entropy = nn.BCELoss()
        return cross_entropy(torch.sigmoid(on_real), ones) + cross_entropy(torch.sigmoid(on_fake), zeros)

    def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
        on_fake = discriminator(fake, None)
        if loss_name == "wasserstein":
            return -on_fake.mean()
        if loss_name == "relativistic_pairing":
            return F.softplus(discriminator(real, None) - on_fake).mean()
        return nn.BCELoss()(torch.sigmoid(on_fake), torch.ones_like(on_fake))

    def play(steps: int) -> None:
        for _ in range(steps):
            for _ in range(critic_turns):
                real = next_images()
                fake = generator(torch.randn(64, game.latent), None).detach()
                optimizers["discriminator"].zero_grad()
                loss = discriminator_loss(real, fake)
                loss.backward()
                optimizers["discriminator"].step()
                loss.item()
            optimizers["generator"].zero_grad()
            loss = generator_loss(real, generator(torch.randn(64, game.latent), None))
            loss.backward()
            optimizers["generator"].step()
            loss.item()

    return play


def write_images(folder: Path, size: int, channels: int) -> None:
    """1,024 images as PNG files."""
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (1024, size, size, channels), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0] if channels == 1 else image).save(folder / f"{number}.png")


def timed(play: Play, count: int) -> float:
    """Seconds of a step."""
    start = time.perf_counter()
    play(count)
    return (time.perf_counter() - start) / count


def count_flops(trainer: Trainer) -> float:
    """Floating-point operations of a step, in matrix products and convolutions."""
    with Counter() as counter:
        trainer.play_step()
    return counter.flops


class Counter(TorchDispatchMode):
    """What torch.utils.flop_counter counts, without its bookkeeping by module, which penalties' gradients break."""

    flops = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its operations."""
        result = function(*args, **(kwargs or {}))
        count = flop_registry.get(function.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result


def gemm_peak(precision: str) -> float:
    """GFLOP/s of square matrix products, the best of eight."""
    left, right = (torch.randn(PEAK_SIDE, PEAK_SIDE).to(HALVES.get(precision, torch.float32)) for _ in range(2))
    return 2 * PEAK_SIDE**3 / min(timed(lambda count: [left @ right for _ in range(count)], 1) for _ in range(8)) / 1e9


def profile(trainer: Trainer) -> None:
    """A table of operators, the dearest first."""
    trainer.game.train()
    with trainer.ready_to_play():
        for _ in range(3):
            trainer.play_step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as record:
            for _ in range(10):
                trainer.play_step()
    averages = record.key_averages(group_by_input_shape=True)
    print(
        averages.table(
            sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=44, max_shapes_column_width=70
        )
    )


if __name__ == "__main__":
    main()
