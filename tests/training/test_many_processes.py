"""The number of processes changes nothing: two play what one plays, and go on with each other's checkpoints.

All trainings run in one subprocess, before the first test asks for any: see processes_driver.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from sparring.training.checkpoint import list_checkpoints

torch.set_num_threads(1)

DRIVER = Path(__file__).with_name("processes_driver.py")
STEPS = 50
ALL = [
    f"train.steps={STEPS}", f"train.checkpoint_every={STEPS // 2}", "train.batch_size=16", "train.log_every=10",
    "train.sample_every=1000", "train.sample_count=4", "train.ema.half_life=500", "evaluate.metric=null",
]  # fmt: skip
TINY = [*ALL, "model.generator.width=4", "model.discriminator.width=4"]
RESNET = [*TINY, "model.generator.group_size=0", "model.discriminator.group_size=0"]
NO_NORM = ["model.generator.norm=none", "model.discriminator.norm=none"]

PAIRING = ["loss.name=relativistic_pairing", "loss.penalties.r1.weight=1", "loss.penalties.r2.weight=1"]
# Adam without momentum moves a weight by the sign of its gradient; for what has none but rounding, that is chance.
SGD = ["train.optimizer={name: sgd, lr: 0.05}"]

# What is played, by name: recipe and keys.
CASES: dict[str, tuple[str, list[str]]] = {
    "plain": ("dcgan", [*TINY, *NO_NORM]),
    "exact penalties": ("dcgan", [*TINY, *NO_NORM, *PAIRING]),
    "default": ("default", [*RESNET, *SGD, "model.discriminator.dropout=0.2"]),
    "five critic turns": ("wgan-gp", [*TINY, *NO_NORM]),
    "equilibrium": ("began", [*TINY, *SGD]),
    "relativistic average": ("dcgan", [*TINY, *NO_NORM, "loss.name=relativistic_average"]),
    "chance everywhere": (
        "dcgan",
        [
            *TINY, *NO_NORM, "model.discriminator.dropout=0.2", "loss.label_noise=0.1", "loss.instance_noise=0.1",
            "data.augment.flip_horizontal=true", "data.augment.crop=0.1", "data.augment.rotate=5",
            "data.augment.brightness=0.1", "data.augment.cutout=0.2", "loss.penalties.consistency.weight=1",
            "loss.penalties.r1_finite_difference.weight=0.1", "loss.penalties.r2_finite_difference.weight=0.1",
            "loss.penalties.dragan.weight=1", "train.turns.balance=true",
        ],
    ),
    "shares and micro-batches": (
        "default",
        [*RESNET, *SGD, "loss.penalties.r1.share=0.5", "loss.penalties.r2.share=0.5", "train.micro_batches=2"],
    ),
    "synchronised batch norm": ("dcgan", [*TINY, "train.sync_batch_norm=true", "loss.penalties.r1.weight=1"]),
    "codes": ("infogan", [*TINY, *NO_NORM]),
    "three players": ("aae", [*TINY, "model.generator.norm=none"]),
    # Adam without momentum again: at the recipe's rate the rounding of the first steps has grown by the last.
    "growing in steps and fades": ("progan", [*TINY, "data.size=16", "model.growth={until: 0.8, fade: 0.6}", "train.optimizer.lr=1e-5"]),
    "a pair of networks a size": (
        "lapgan", [*TINY, "model.generator.hidden=8", "model.discriminator.hidden=8", "train.optimizer.lr=2e-4"],
    ),
    # RMSprop divides by small numbers, and makes their rounding large.
    "all sizes at once": ("msg-gan", [*TINY, "train.optimizer.lr=2e-6"]),
    "styles": ("stylegan2", [*TINY, "model.latent=8", "model.generator.code=8", "model.style_mixing=0.9", "model.path_length.weight=2", "train.optimizer.lr=1e-5"]),
    "earlier outputs": (
        "cyclegan",
        [
            *TINY, *SGD, "data.source=SIDES", "data.layout=sides", "data.size=8", "data.load=null", "model.generator.blocks=1",
            "model.discriminator.field=16", *NO_NORM, "loss.replay=20", "train.schedule={name: constant}",
        ],
    ),
    "sharded optimisers": ("dcgan", [*TINY, *NO_NORM, *PAIRING, "train.shard_optimizer=true"]),
}  # fmt: skip
# What looks at differences of logits only is blind to the discriminator's last bias, which rounding then moves, and with it
# the level of all logits.
BLIND = ("exact penalties", "relativistic average", "sharded optimisers")
UNSEEN = ("discriminator.head.linear.bias", "overfitting.levels")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every training that the tests look at: `NAME/1` by one process, `NAME/2` by two."""
    folder = tmp_path_factory.mktemp("runs")
    jobs: list[dict[str, Any]] = []
    sides = write_sides(folder / "sides")
    for name, (recipe, keys) in CASES.items():
        played = {"recipe": recipe, "set": [key.replace("SIDES", str(sides)) for key in keys]}
        jobs += [{"run": str(folder / name / str(world)), "world": world, **played} for world in (1, 2)]
    for name, then, now in RESUMED:
        source, target = folder / name / str(then), folder / name / f"{then} then {now}"
        jobs.append({"run": str(target), "world": now, "copy": str(source)})
    few = [*ALL, "train.steps=4", "train.checkpoint_every=2", "train.shared_noise=false"]
    jobs.append({"run": str(folder / "own noise"), "world": 2, "recipe": "gan", "set": few})
    jobs.append({"run": str(folder / "own noise again"), "world": 2, "copy": str(folder / "own noise")})
    jobs.append({"run": str(folder / "own noise alone"), "world": 1, "copy": str(folder / "own noise")})
    recipe, keys = CASES["plain"]
    started = {"recipe": recipe, "set": keys, "launcher": "srun"}
    jobs.append({"run": str(folder / "plain" / "by SLURM"), "world": 2, **started})
    epoch = [*ALL, "train.steps=null", "train.epochs=1", "train.batch_size=33"]
    jobs.append({"run": str(folder / "epoch"), "world": 3, "recipe": "gan", "set": epoch, "remember": True})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(DRIVER), str(folder / "jobs.json")],
        capture_output=True, text=True, timeout=500, check=False, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


def write_sides(folder: Path) -> Path:
    """Digits from 0 to 4, and from 5 to 9, as two sides without pairs."""
    digits = load_digits()
    images = np.rint(digits.images[:80] * (255 / 16)).astype(np.uint8)
    for number, (image, digit) in enumerate(zip(images, digits.target[:80], strict=True)):
        side = folder / ("a" if digit < 5 else "b")
        side.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(side / f"{number}.png")
    return folder


# A checkpoint from the middle of a training, by so many processes, then by so many.
RESUMED = [
    ("exact penalties", 2, 1),
    ("exact penalties", 2, 4),
    ("chance everywhere", 1, 2),
    ("chance everywhere", 2, 2),
    ("sharded optimisers", 2, 4),
]


def end(run: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of the last checkpoint."""
    last = list_checkpoints(run / "checkpoints")[-1]
    assert last.step == STEPS
    return {name: last.tensors(name) for name in ("game", "average", "optimizers")}


def distance(runs: Path, name: str, run: str) -> float:
    """The largest difference at the end between a run and that of one process: of weights, buffers and averages."""
    one, other = end(runs / name / "1"), end(runs / name / run)
    largest = 0.0
    for kind in ("game", "average"):
        assert one[kind].keys() == other[kind].keys()
        for key, value in one[kind].items():
            if name not in BLIND or key not in UNSEEN:
                largest = max(largest, (value.double() - other[kind][key].double()).abs().max().item())
    return largest


def figures(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = ("seconds", "speed/samples_per_second")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_with_the_weights_of_one(runs: Path, name: str) -> None:
    assert distance(runs, name, "2") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_record_the_figures_of_one(runs: Path, name: str) -> None:
    one, two = figures(runs / name / "1"), figures(runs / name / "2")
    assert len(one) == len(two) == STEPS // 10
    for left, right in zip(one, two, strict=True):
        drifting = {"watch/discriminator/real_logit", "watch/discriminator/fake_logit"} if name in BLIND else set()
        for key in left.keys() - drifting:
            assert left[key] == pytest.approx(right[key], rel=1e-4, abs=1e-5), key
        assert left.keys() == right.keys()


@pytest.mark.slow
def test_slurm_starts_as_many_processes_as_it_has_tasks(runs: Path) -> None:
    assert {path.name for path in (runs / "plain" / "by SLURM").glob("checkpoints/*50/random-*")} == {
        "random-0000.safetensors", "random-0001.safetensors",
    }  # fmt: skip
    assert distance(runs, "plain", "by SLURM") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "then", "now"), RESUMED)
def test_another_number_of_processes_goes_on_with_a_checkpoint(runs: Path, name: str, then: int, now: int) -> None:
    assert distance(runs, name, f"{then} then {now}") < 1e-5


@pytest.mark.slow
def test_as_many_processes_go_on_bit_for_bit(runs: Path) -> None:
    whole, resumed = end(runs / "chance everywhere" / "2"), end(runs / "chance everywhere" / "2 then 2")
    for kind, tensors in whole.items():
        for key, value in tensors.items():
            assert torch.equal(value, resumed[kind][key]), (kind, key)


@pytest.mark.slow
def test_sharding_leaves_no_trace_in_a_checkpoint(runs: Path) -> None:
    whole, sharded = end(runs / "exact penalties" / "2"), end(runs / "sharded optimisers" / "2")
    for kind, tensors in whole.items():
        assert {key: value.shape for key, value in tensors.items()} == {
            key: value.shape for key, value in sharded[kind].items()
        }
    torch.testing.assert_close(sharded["optimizers"], whole["optimizers"], atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_noise_of_their_own_ties_a_run_to_its_number_of_processes(runs: Path) -> None:
    assert not (runs / "own noise.error-0").exists()
    again = [
        list_checkpoints(runs / name / "checkpoints")[-1].tensors("game") for name in ("own noise", "own noise again")
    ]
    assert all(torch.equal(value, again[1][key]) for key, value in again[0].items())
    assert "by 2 processes with noise of their own" in (runs / "own noise alone.error-0").read_text()


@pytest.mark.slow
def test_an_epoch_of_three_processes_visits_every_sample_once(runs: Path) -> None:
    steps = [
        [json.loads(line) for line in (runs / f"epoch.drawn-{rank}").read_text().splitlines()] for rank in range(3)
    ]
    drawn = [index for shares in zip(*steps, strict=True) for share in shares for index in share]
    assert sorted(drawn[:1797]) == list(range(1797))
    assert len(drawn) - 1797 < 33
