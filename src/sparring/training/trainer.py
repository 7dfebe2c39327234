"""The loop: the one place where steps happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.core import processes
from sparring.core.accounting import Spent
from sparring.core.compiled import eager
from sparring.core.ema import Average
from sparring.core.game import Batch, Game, Losses, Turn, Unseen, mean_losses
from sparring.core.regularize import clip_gradients, clip_weights, gradient_norm, weight_terms
from sparring.core.schedules import learning_rate, length
from sparring.core.standing import take_standing_statistics
from sparring.data.dataset import Dataset, order_of
from sparring.data.sampling import PoissonSampler, Sampler
from sparring.errors import Interrupted, UserError, nearest
from sparring.nn.batch_norm import synchronise_batch_norm
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training import checkpoint as files
from sparring.training.engine import Engine, deterministic, seed_everything
from sparring.training.guard import (
    MAX_RECOVERIES,
    Diverged,
    FiniteGuard,
    Stop,
    dump_incident,
    is_out_of_memory,
    tolerate_full_disk,
    unfinite_weights,
)
from sparring.training.length import planned_steps
from sparring.training.listener import Listener
from sparring.training.players import PlayerState, build_player
from sparring.training.privacy import Privacy, require_single
from sparring.training.state import State, pack, unpack


class Trainer:
    """Plays a game to the end.

    run: where checkpoints go, or None to keep nothing (a dry run).
    described: what the description of the data has spent, of a new private training.
    say: prints a line to the user.
    Raises UserError for recipes that cannot be played.
    """

    def __init__(
        self,
        game: Game,
        data: Dataset,
        recipe: Recipe,
        engine: Engine,
        run: Run | None,
        *,
        listeners: Sequence[Listener] = (),
        described: Sequence[Spent] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        options = recipe.train
        if recipe.private.on:
            require_single(engine)
        if options.sync_batch_norm and engine.world > 1:
            synchronise_batch_norm(game)
        self.game = engine.settings.dress(game.to(engine.device))
        self.data = data.to(engine.device)
        self.recipe, self.engine, self.run = recipe, engine, run
        self.listeners, self.say = list(listeners), say
        self.state = State(micro_batches=options.micro_batches)
        self.length = planned_steps(options, game, len(data))
        self.privacy: Privacy | None = None
        self.sampler: Sampler | PoissonSampler
        if recipe.private.on:
            self.privacy = Privacy(game, recipe, len(data), self.length, described)
            self.sampler = self.privacy.sampler
            self.keep_account(self.privacy)
        else:
            order = order_of(data, options.batch_size, options.seed)
            self.sampler = Sampler(
                len(data), options.batch_size, options.seed, rank=engine.rank, world=engine.world, order=order
            )
        self.players = {
            name: build_player(name, module, recipe, engine, self.length) for name, module in game.players().items()
        }
        for name in options.players.keys() - self.players.keys():
            raise UserError(
                f"train.players.{name}: this game has no such player{nearest(name, self.players)}; there are {', '.join(self.players)}"
            )
        for player in self.players.values():
            engine.settings.quicken(player.module)
        self.group = engine.group(options.seed + 1 if options.shared_noise else None)
        kept = self.game.state_dict().keys()  # other buffers are constants
        self.buffers = [name for name, _ in self.game.named_buffers() if name in kept]
        ema = options.ema
        over = 0 if ema.final_half_life is None else length(ema.over, self.length, where="train.ema")
        self.average = Average(
            game.averaged(), ema.half_life, ema.warmup, final=ema.final_half_life, over=over * options.batch_size
        )
        self.guard = FiniteGuard(engine.device)
        self.stop = Stop()
        self.losses: dict[str, Tensor] = {}
        self.measured_at = -1
        self.standing_at = -1
        self.batch: Batch | None = None
        self.started = time.monotonic()

    def train(self) -> State:
        """Play until the steps, epochs or minutes are over. Raises Interrupted after saving, UserError if it diverges."""
        with self.stop.listening(), self.ready_to_play():
            self.game.train()
            self.started = time.monotonic() - self.state.seconds
            if self.state.step == 0:
                # Every process built the same networks from the same seed; from here on its own generators are its own.
                self.seed_own()
            self.tell("at_start")
            if self.state.step == 0:
                self.save()  # so that a run killed before its first checkpoint can be resumed, and a NaN can go back
            while not self.finished():
                try:
                    self.play_step()
                except Diverged as divergence:
                    self.recover(str(divergence))
                    continue
                self.tell("after_step")
                stopping = self.engine.any(self.stop.asked)
                # Only now, when every listener has heard of the step: what comes after a checkpoint may never come.
                due = (
                    self.state.step % self.recipe.train.checkpoint_every == 0
                    or self.state.best.get("step") == self.state.step
                )
                if stopping or due or self.finished():
                    self.save()
                if self.impatient:
                    best = self.state.best.get("step")
                    self.say(
                        f"stopped early at step {self.state.step}: {self.recipe.evaluate.metric} has not got better since step {best}, "
                        f"{self.state.unimproved} measurements ago (evaluate.patience)"
                    )
                if stopping:
                    self.tell("at_end")
                    raise Interrupted(f"stopped at step {self.state.step}")
            if self.privacy is not None:
                self.say(self.privacy.sentence(self.state.step))
            self.tell("at_end")
        return self.state

    @contextmanager
    def ready_to_play(self) -> Iterator[None]:
        """The process as the steps of this training want it; afterwards as it was."""
        with deterministic(self.recipe.train.deterministic), self.engine.settings.applied(self.engine.device):
            yield

    def play_step(self) -> None:
        """One step: the turns that the game names, in order."""
        with nullcontext() if self.group is None else self.group.playing():
            self.play_turns()

    def play_turns(self) -> None:
        """The turns of a step. All processes play them together."""
        step, options = self.state.step, self.recipe.train
        multiplier = learning_rate(options.schedule, step, self.length) * self.state.lr_scale
        self.engine.share_buffers(self.game.get_buffer(name) for name in self.buffers)
        for player in self.players.values():
            player.hold()
        parts: list[Batch] = []
        for turn in self.game.turns(step):
            if self.privacy is not None:
                # Not the data's number of samples, which the data tell: what was asked for.
                parts = list(Unseen(options.batch_size).split(self.state.micro_batches))
            elif turn.fresh or not parts:
                self.at_hand(None)
                self.batch = self.data.batch(self.sampler.next())
                parts = list(self.batch.split(self.state.micro_batches))
            parts = self.play_turn(turn, parts, step, multiplier)
        self.state.step += 1
        self.state.seen += options.batch_size
        self.state.sampler_position = self.sampler.position
        if self.privacy is not None:
            self.keep_account(self.privacy)
        self.state.seconds = time.monotonic() - self.started
        self.average.update(options.batch_size, self.state.seen)

    def play_turn(self, turn: Turn, parts: list[Batch], step: int, multiplier: float) -> list[Batch]:
        """One player's optimiser step on the micro-batches; returns them, cut smaller where memory ran out."""
        player = self.players[turn.player]
        self.tell("before_turn", turn)
        while True:
            player.optimizer.zero_grad(set_to_none=True)
            try:
                if self.privacy is not None and turn.player in self.game.private_players:
                    losses = self.privacy.play(turn, player, self.data, step)
                else:
                    losses = self.accumulate(turn, player, parts, step)
                break
            except (RuntimeError, MemoryError) as error:
                parts = self.smaller(parts, error)
        losses = self.meet(player, losses)
        if player.scaler:
            player.scaler.unscale_(player.optimizer)
        norm = gradient_norm(player.parameters)
        self.guard.check(turn, losses, None if player.scaler else norm)
        clip_gradients(player.parameters, player.regularize.clip_gradient_norm, player.regularize.clip_gradient_value)
        player.set_pace(step, multiplier)
        if player.scaler:
            player.scaler.step(player.optimizer)
            player.scaler.update()
        else:
            player.optimizer.step()
        with torch.no_grad():
            if player.regularize.clip_weights:
                clip_weights(player.parameters, player.regularize.clip_weights)
            self.game.after_turn(turn, step)
        self.note(turn, losses, norm)
        self.tell("after_turn", turn, losses)
        return parts

    def accumulate(self, turn: Turn, player: PlayerState, parts: list[Batch], step: int) -> Losses:
        """Losses and gradients over the micro-batches: both are those of the whole batch's mean."""
        total = sum(part.count for part in parts)
        played: list[tuple[Losses, float]] = []
        for part in parts:
            self.at_hand(part)
            with self.engine.autocast():
                losses = self.game.loss(turn, part, step)
            losses.update(weight_terms(player.module, player.regularize))
            played.append((losses.plain(), part.count / total))
            loss = losses.total * (part.count / total)
            # `inputs` keeps other players' gradients untouched and spares the work of computing them.
            (player.scaler.scale(loss) if player.scaler else loss).backward(inputs=player.parameters)
        return mean_losses(played)

    def keep_account(self, privacy: Privacy) -> None:
        """Let the state have what was spent, and with which noise going on will spend more."""
        self.state.noise, self.state.account = privacy.noise, [list(each) for each in privacy.account]

    def meet(self, player: PlayerState, losses: Losses) -> Losses:
        """Gradients and figures as means over all processes: from here on they all know the same."""
        if self.group is None:
            return losses
        means = self.engine.average_gradients(player.parameters, [*losses.values(), *losses.watch.values()])
        count = len(losses)
        return Losses(
            dict(zip(losses, means[:count], strict=True)), dict(zip(losses.watch, means[count:], strict=True))
        )

    def at_hand(self, part: Batch | None) -> None:
        """Let the group know what this process plays on."""
        if self.group is not None:
            self.group.at_hand = 0 if part is None else part.count

    def smaller(self, parts: list[Batch], error: BaseException) -> list[Batch]:
        """The whole batch again in twice as many micro-batches, where `error` says that memory ran out."""
        if not is_out_of_memory(error):
            raise error
        more = self.state.micro_batches * 2
        if self.privacy is not None or self.engine.world > 1 or more > sum(part.count for part in parts):
            raise UserError(
                f"out of memory: use a smaller train.batch_size, data.size or network, or train.micro_batches={more}"
            ) from error
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(
            f"out of memory: going on with {more} micro-batches a turn (gradients are accumulated; batch norm sees the parts)"
        )
        self.state.micro_batches = more
        whole = Batch({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        return list(whole.split(more))

    def recover(self, reason: str) -> None:
        """Go back to the last good checkpoint with a smaller learning rate. Raises UserError after too many times."""
        if self.privacy is not None:
            # What was spent since is spent, and the same noise on other gradients would give these away.
            raise UserError(
                f"training diverged at step {self.state.step} ({reason}), and a private one is not begun again from a checkpoint: "
                "lower train.optimizer.lr, and train anew"
            )
        recoveries, scale, step = self.state.recoveries + 1, self.state.lr_scale / 2, self.state.step
        good = files.newest_good(self.run.checkpoints, self.say) if self.run else None
        if self.run and self.engine.main:
            facts = {
                "step": step,
                "lr_scale": self.state.lr_scale,
                "losses": self.read_losses(),
                "weights": unfinite_weights(self.game),
            }
            dump_incident(
                self.run.incidents / f"step-{step:08d}-{recoveries}",
                reason,
                self.batch,
                self.game,
                facts,
                files.write_tensors,
            )
        if recoveries > MAX_RECOVERIES or good is None:
            raise UserError(
                f"training diverged at step {step} ({reason}) and {recoveries - 1} restarts with smaller learning rates did not help: "
                f"lower train.optimizer.lr, add a penalty (loss.penalties.r1.weight=1) or use --precision 32"
                + (f"; what led there is in {self.run.incidents}" if self.run else "")
            )
        self.engine.barrier()
        self.load(good)
        self.state.recoveries, self.state.lr_scale = recoveries, scale
        self.guard.finite = None
        self.say(
            f"not finite at step {step} ({reason}): back to step {self.state.step} with the learning rate × {scale:g}"
        )
        self.tell("at_recovery", reason)

    def finished(self) -> bool:
        """Whether the steps, epochs, minutes or the patience are over, whichever comes first."""
        options = self.recipe.train
        if options.steps is not None and self.state.step >= options.steps:
            return True
        if options.epochs is not None and self.sampler.position >= options.epochs * len(self.data):
            return True
        if self.impatient:
            return True
        if self.privacy is not None and not self.privacy.affords(self.state.step):
            return True
        # Clocks differ between processes, so they agree on the answer.
        return options.minutes is not None and self.engine.any(self.state.seconds >= options.minutes * 60)

    @property
    def impatient(self) -> bool:
        """Whether the figure that names the best checkpoint has not got better for `evaluate.patience` measurements."""
        patience = self.recipe.evaluate.patience
        return patience is not None and self.state.unimproved >= patience

    def save(self) -> None:
        """Write a checkpoint, unless something in it is not finite. A full disk is a warning."""
        if self.run is None:
            return
        try:
            self.guard.ask("losses and gradients since the last check")
            poisoned = unfinite_weights(self.game)
            if self.engine.any(bool(poisoned)):
                raise Diverged(f"weights {', '.join(poisoned[:3]) or 'of another process'}")
        except Diverged as divergence:
            self.recover(str(divergence))
            return
        with tolerate_full_disk(self.say):
            tensors, content = pack(self)
            files.save_checkpoint(
                self.run.checkpoints,
                self.state.step,
                tensors,
                content,
                rank=self.engine.rank,
                any_process=self.engine.any,
            )
            if self.engine.main:
                files.prune_checkpoints(self.run.checkpoints, self.recipe.train.keep, self.state.best.get("step"))
            self.tell("at_checkpoint")

    def load(self, checkpoint: files.Checkpoint) -> None:
        """Take over everything a checkpoint holds. Raises Damaged, or UserError where as many processes are needed as wrote it."""
        unpack(self, checkpoint)
        if self.privacy is not None:
            self.privacy.take(self.state.noise, self.state.account)
        self.standing_at = -1
        self.started = time.monotonic() - self.state.seconds

    def seed_own(self) -> None:
        """Seed this process's own generators for what comes from this step on."""
        seed, rank = self.recipe.train.seed, self.engine.rank
        if self.group is not None and self.group.shares_noise:
            # Nothing may come twice: not from two processes, and not from what they draw in common.
            words = np.random.SeedSequence([seed, self.state.step, rank]).generate_state(1, np.uint64)
            seed_everything(int(words[0] >> np.uint64(1)))
        else:
            seed_everything(seed + 1 + rank)

    def offer(self, metrics: dict[str, float], metric: str, *, lower_is_better: bool = True) -> None:
        """Take figures measured at this step; where `metric` is the best so far, this step's checkpoint is kept."""
        self.state.metrics, self.measured_at = dict(metrics), self.state.step
        value, best = metrics[metric], self.state.best.get("value")
        if value == value and (best is None or (value < best if lower_is_better else value > best)):
            self.state.best = {"step": self.state.step, "metric": metric, "value": value}
            self.state.unimproved = 0
        else:
            self.state.unimproved += 1

    @contextmanager
    def sampling(self) -> Iterator[Game]:
        """The game as `generate` would have it: averaged weights, eval mode, no gradients, and no trace left behind."""
        with self.undisturbed():
            try:
                with torch.no_grad(), self.average.applied(), eager():
                    self.game.eval()
                    self.stand()
                    yield self.game
            finally:
                self.game.train()

    def stand(self) -> None:
        """Give averaged weights, which are in place, statistics of their own: once a step, however often samples are drawn."""
        if self.standing_at != self.state.step and self.average.kept:
            frozen = [module for player in self.players.values() for module in player.frozen]
            take_standing_statistics(self.game, frozen=frozen)
            self.average.refresh()
            self.standing_at = self.state.step

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Whatever is drawn inside, by this process alone, the training goes on with the random numbers it would have had."""
        random = files.random_state()
        try:
            with processes.alone():
                yield
        finally:
            files.restore_random_state(random)

    def note(self, turn: Turn, losses: Losses, norm: Tensor) -> None:
        """Keep the figures of a turn where they are; `read_losses` fetches them when someone looks."""
        for name, value in losses.items():
            self.losses[f"loss/{turn.name}/{name}"] = value.detach()
        for name, value in losses.watch.items():
            self.losses[f"watch/{turn.name}/{name}"] = value.detach()
        self.losses[f"gradient/{turn.name}"] = norm

    def read_losses(self) -> dict[str, float]:
        """The latest figures as numbers: one transfer from the device."""
        if not self.losses:
            return {}
        values = torch.stack([value.float().reshape(()) for value in self.losses.values()]).tolist()
        return dict(zip(self.losses, values, strict=True))

    def tell(self, event: str, *details: Any) -> None:
        """Call a hook of every listener."""
        for listener in self.listeners:
            getattr(listener, event)(self, *details)
