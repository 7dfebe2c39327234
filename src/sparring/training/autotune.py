"""Which settings suit: measured, before a training of more than a minute, by playing a few steps each way.

It depends on the machine, the networks and what else is running. The choice is remembered for this recipe on this machine,
so that the same recipe gives the same bits again, and is in every checkpoint, so that a resumed run goes on with it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparring.files import write_json
from sparring.host import cores, processor
from sparring.recipe import Recipe
from sparring.training.engine import Engine
from sparring.training.settings import Settings, pins
from sparring.training.trainer import Trainer

WORTH_TUNING = 60.0  # seconds; a shorter training is over before a choice has paid
WORTH_COMPILING = 3600.0  # a compiler takes a minute or two
FEW_STEPS = 50  # trainings of fewer steps are not even timed
SHARE, LIMIT = 0.03, 20.0  # of the training's time that measuring may take, and seconds at most
GAIN = 0.95  # of the time: what is not faster than that is not worth another rounding
PACE = ("batch_size", "micro_batches", "turns", "optimizer", "regularize", "players", "ema", "deterministic")
FORMAT = 1

Rehearsal = Callable[[], Trainer]
Found = dict[str, Any]
"""`seconds` of a step with the first settings, and the best `settings` where they were looked for."""


def tune(rehearsal: Rehearsal, recipe: Recipe, engine: Engine, *, remember: Path | None = None) -> Settings:
    """The fastest settings for a training of `recipe`; what the engine's `machine` pins stays. The engine keeps those it has.

    rehearsal: builds a trainer of the same game that keeps nothing, with the engine as it is then.
    remember: folder of what was found before; None measures anew.
    All processes of a training call it, and agree.
    """
    first = engine.settings
    few = recipe.train.steps is not None and recipe.train.steps < FEW_STEPS
    if few or set(pins(engine.machine)) == set(first.plain()):
        return first
    trainer = rehearsal()
    file = remember / f"{_key(trainer)}.json" if remember else None
    found: Found = engine.broadcast(_recall(file) if engine.main else None) or {}
    base = _Candidate(first, trainer)
    if "seconds" not in found:
        found = {"seconds": engine.broadcast(base.step(3))}
        _keep(file, found, engine)
    planned = _planned(trainer, found["seconds"])
    if planned < WORTH_TUNING:
        return first
    if "settings" not in found:
        found["settings"] = _climb(base, rehearsal, planned).settings.plain()
        _keep(file, found, engine)
        engine.use(first)
    return Settings(**found["settings"])


class _Candidate:
    """A trainer with its settings."""

    def __init__(self, settings: Settings, trainer: Trainer) -> None:
        self.settings, self.trainer = settings, trainer
        trainer.game.train()

    def step(self, count: int = 1) -> float:
        """Seconds of a step, of `count` of them the fastest: what else the machine does can only slow them down."""
        self.trainer.engine.use(self.settings)
        times = []
        with self.trainer.ready_to_play():
            for _ in range(count):
                start = time.perf_counter()
                self.trainer.play_step()
                self.trainer.read_losses()  # waits for the device
                times.append(time.perf_counter() - start)
        return min(times)


def _climb(base: _Candidate, rehearsal: Rehearsal, planned: float) -> _Candidate:
    """Change one setting after the other where that is faster, until the time for it is over."""
    engine = base.trainer.engine
    deadline = time.monotonic() + min(LIMIT, SHARE * planned)
    for name, values in _alternatives(base, planned):
        for value in values:
            if engine.any(time.monotonic() > deadline):
                return base
            better = _faster(base, replace(base.settings, **{name: value}), rehearsal)
            if better is None:
                break  # with fewer threads still, say, it would be slower still
            base = better
    return base


def _faster(base: _Candidate, settings: Settings, rehearsal: Rehearsal) -> _Candidate | None:
    """The candidate with `settings` if it is worth changing to: played beside `base`, in turn."""
    engine = base.trainer.engine
    engine.use(settings)
    try:
        candidate = _Candidate(settings, rehearsal())
        candidate.step()
        ours, theirs = [], []
        for _ in range(4):
            ours.append(base.step())
            theirs.append(candidate.step())
    except Exception:  # no compiler, no memory, a layer that cannot: then not so
        if engine.world > 1:
            raise  # one process alone must not go on
        return None
    return candidate if engine.broadcast(min(theirs) < GAIN * min(ours)) else None


def _alternatives(base: _Candidate, planned: float) -> Iterator[tuple[str, list[Any]]]:
    """What else could be faster, the most promising first."""
    engine, settings = base.trainer.engine, base.settings
    free, device = set(settings.plain()) - set(pins(engine.machine)), engine.device.type
    if "precision" in free and device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield "precision", ["bf16"]
    if "threads" in free and device == "cpu":
        halves = [settings.threads >> power for power in range(1, 10)]
        yield "threads", [count for count in halves if count]
    images = any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in base.trainer.game.modules())
    if "channels_last" in free and images:
        yield "channels_last", [True]
    if "compile" in free and planned > WORTH_COMPILING / (10 if device == "cuda" else 1):
        yield "compile", [True]


def _planned(trainer: Trainer, step: float) -> float:
    """Seconds that the training would take."""
    options = trainer.recipe.train
    ends = [] if trainer.length is None else [trainer.length * step]
    if options.minutes is not None:
        ends.append(options.minutes * 60)
    return min(ends)


def _recall(file: Path | None) -> Found | None:
    """What was found before."""
    try:
        content = json.loads(file.read_text()) if file else {}
        if content["format"] != FORMAT:
            return None
        if "settings" in content:
            Settings(**content["settings"])
        return {"seconds": float(content["seconds"]), **content}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(file: Path | None, found: Found, engine: Engine) -> None:
    if file is not None and engine.main:
        with suppress(OSError):  # what cannot be remembered is measured again
            write_json(file, {"format": FORMAT, **found})


def _key(trainer: Trainer) -> str:
    """A digest of all that the speed of a step depends on."""
    recipe, engine, spec = trainer.recipe.plain(), trainer.engine, trainer.data.spec
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else processor()
    facts = {
        "what": {key: recipe[key] for key in ("domain", "game", "model", "loss")},
        "train": {key: recipe["train"][key] for key in PACE},
        "data": [list(spec.shape), len(spec.classes)],
        "how": [engine.settings.plain(), pins(engine.machine), engine.world],
        "where": [engine.device.type, device, cores(), torch.__version__],
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
