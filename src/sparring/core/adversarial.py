"""The adversarial game: a generator and a discriminator, any loss, any penalties, with or without labels.

It knows no kind of data: a sample is whatever the generator returns and `batch["data"]` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance, processes
from sparring.core.both_sides import BothSides, Overfitting
from sparring.core.codes import truncate_latents
from sparring.core.exportable import Choice, Exportable, Input, Noise, Vector
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn, Unseen
from sparring.core.labels import Labels
from sparring.core.losses import bind, flip_labels, resolve_loss
from sparring.core.passes import Played, PlayedRow, join, judge, part_size, spaced
from sparring.core.penalties import (
    ROW_BY_ROW,
    bind_penalties,
    gradients_asked,
    play_penalties,
    resolve_penalties,
)
from sparring.core.private import RowLoss, Rows
from sparring.core.schedules import anneal, balanced_counts, turn_counts
from sparring.errors import UserError
from sparring.options import validate
from sparring.recipe import Section, Turns


class LossOptions(Section):
    """The recipe's `loss` section."""

    name: str = "non_saturating"
    options: dict[str, Any] = pydantic.Field({}, description="the loss's own numbers, e.g. a, b, c of least_squares")
    penalties: dict[str, dict[str, Any]] = pydantic.Field(
        {}, description="name → weight, every (interval), share (of the batch), own options"
    )
    label_noise: float = pydantic.Field(0.0, ge=0, le=0.5, description="probability of swapped real and fake labels")
    instance_noise: float = pydantic.Field(0.0, ge=0, description="standard deviation of noise on D's inputs")
    instance_noise_steps: int | None = pydantic.Field(None, ge=1, description="the noise falls to 0 over so many steps")
    share_fakes: bool = pydantic.Field(True, description="G's turn plays on the samples that D's turn has just seen")
    augment: dict[str, Any] = pydantic.Field(
        {"name": "none"}, description="a random change of all that D sees, against too few samples"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, the options of the loss and of its penalties filled in. Raises UserError."""
        plain = validate(cls, values, where="loss")
        plain["options"] = resolve_loss(plain["name"], plain["options"])
        plain["penalties"] = resolve_penalties(plain["penalties"])
        return plain


Latent = Literal["normal", "uniform"]


class AdversarialGame(Game):
    """Goodfellow et al. 2014, with every loss and penalty of `core.losses` and `core.penalties`.

    generator: (latent (N, L), label (N,) or (N, K) or None) → samples.
    discriminator: (samples, label (N,) or (N, K) or None) → logits (N, …).
    labels: what the training data's labels are; None for an unconditional game. Of plain classes `label_weights` will do:
    how often the data has each, class name → count.
    augment: a differentiable random transformation of samples, for the consistency penalty.
    both_sides: what is done to all that the discriminator sees, which `loss.augment` names.
    steps: the planned length of the training, for schedules; None where it is not known.
    """

    accuracy: Tensor
    label_weights: Tensor
    parts: Sequence[int] = ()
    """Lengths of the inputs that a sample (N, numbers) is packed of; () where it is one input."""
    private_players = ("discriminator",)
    private_labels = False
    """Whether `draw_labels` draws by frequencies that a private training may know."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent: int,
        loss: LossOptions,
        turns: Turns,
        latent_distribution: Latent = "normal",
        label_weights: Mapping[str, float] | None = None,
        labels: Labels | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        both_sides: BothSides | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.latent = latent
        self.latent_distribution = latent_distribution
        self.options = loss
        self.schedule = turns
        self.steps = steps
        self.augment = augment
        self.adversarial = bind(loss.name, loss.options)
        self.penalties = bind_penalties(loss.penalties, steps=steps)
        if labels is None and label_weights:
            labels = Labels(tuple(label_weights), counts=tuple(map(float, label_weights.values())))
        self.label_table = labels
        self.classes = labels.names if labels else ()
        self.conditional = labels is not None
        # Statistics of a joint batch are not those of its halves: batch norm must see real and fake apart.
        self.joint = not mixes_samples(discriminator)
        # The data says this anew whenever a game is built: a fine-tuned run must not inherit it.
        frequencies = torch.tensor(labels.counts if labels else (), dtype=torch.float32)
        self.register_buffer("label_weights", frequencies, persistent=False)
        # Share of logits on the right side, smoothed: `turns.balance` decides by it, so it must survive a restart.
        self.register_buffer("accuracy", torch.tensor(0.75))
        if both_sides is None and loss.augment.get("name", "none") != "none":
            raise UserError("loss.augment: there is no augmentation of both sides for this kind of data; leave it out")
        self.both_sides = BothSides() if both_sides is None else both_sides
        self.overfitting = Overfitting()

    @property
    def conditions(self) -> Sequence[str]:
        """The classes, attributes or values of a conditional game."""
        return self.classes

    @property
    def labels(self) -> Labels | None:
        """The data's labels, where the game is conditional."""
        return self.label_table

    @property
    def reads_labels(self) -> bool:
        """Whether it is conditional."""
        return self.conditional

    def players(self) -> dict[str, nn.Module]:
        """The two of them."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        """The discriminator's turns, each on new data, then the generator's; the first of these on the last batch."""
        if self.schedule.balance:
            critics, generators = balanced_counts(self.accuracy.item())
        else:
            critics, generators = turn_counts(self.schedule, step, self.steps)
        shares = self.options.share_fakes
        return (
            *(Turn("discriminator", keep=shares and index == critics - 1) for index in range(critics)),
            Turn("generator", fresh=False),
            *(Turn("generator") for _ in range(generators - 1)),
        )

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """The discriminator's or the generator's side of the game."""
        return (
            self.discriminator_loss(batch, step, turn.keep)
            if turn.player == "discriminator"
            else self.generator_loss(batch, step)
        )

    def discriminator_loss(self, batch: Batch, step: int, keep_fakes: bool) -> Losses:
        """Adversarial loss, then each penalty that is due at this step, then what a subclass adds."""
        label = self.label(batch)
        real = self.disturb(self.both_sides.pretend(batch["data"], lambda: self.draw_unseen(batch)), step)
        batch.memo["shown"] = real  # for a subclass's terms
        with torch.set_grad_enabled(keep_fakes):
            fake = self.draw(batch)
        if keep_fakes:
            batch.memo["fake"] = fake
        fake = self.disturb(fake.detach().to(real.dtype), step)

        # Penalties work in full precision; where the whole turn does, they differentiate the pass that the loss looks at.
        precise = not torch.is_autocast_enabled(real.device.type)
        probed, share = gradients_asked(self.penalties, step) if precise else ((), 0.0)
        judged, probes = judge(
            self.look,
            {"real": real, "fake": fake},
            label,
            joint=self.joint,
            probed=probed,
            count=part_size(len(real), share),
        )
        (real_logits, real_features), (fake_logits, fake_features) = judged["real"], judged["fake"]

        count = self.overfitting.observe(real_logits.detach(), fake_logits.detach(), self.adversarial.boundary)
        noisy = flip_labels(real_logits, fake_logits, self.options.label_noise)
        parts = {"adversarial": self.adversarial.discriminator(*noisy)}

        def discriminate(samples: Tensor, lots: int = 1) -> Tensor:
            labels = None if label is None else join([spaced(label, len(samples) // lots)] * lots)
            return self.discriminator(samples, labels)

        played = Played(
            discriminate,
            real,
            fake,
            real_logits if precise else None,
            fake_logits if precise else None,
            augment=self.augment,
            joint=self.joint,
            probes=probes,
            anchors=self.overfitting.anchors,
            parts=self.parts,
        )
        parts |= play_penalties(self.penalties, played, step)
        losses = Losses(parts, self.watch(real_logits.detach(), fake_logits.detach()))
        self.both_sides.adapt(self.overfitting.signal, count)
        losses.watch |= {"r_t": self.overfitting.signal.clone(), **self.both_sides.watch()}
        self.add_discriminator_terms(losses, batch, real_features, fake_features)
        return losses

    def require_private(self) -> None:
        """Raise UserError for what looks across samples, or past the discriminator."""
        super().require_private()
        kind = type(self)
        more = ("look", "add_discriminator_terms", "discriminator_loss")
        across = [each.name for each in self.penalties if each.function.func not in ROW_BY_ROW]
        reasons = {
            "the discriminator minimises more than an adversarial loss and its penalties": any(
                getattr(kind, name) is not getattr(AdversarialGame, name) for name in more
            ),
            f"the loss {self.options.name!r} shows real samples to the generator too: choose loss.name=non_saturating, say": (
                self.adversarial.relativistic
            ),
            f"loss.penalties.{''.join(across[:1])} looks across samples: choose wgan_gp or r1, say": bool(across),
            "loss.augment is not known to change samples one by one: set loss.augment.name=none": (
                type(self.both_sides) is not BothSides
            ),
            "train.turns.balance follows what the discriminator thinks of the data: leave it out": self.schedule.balance,
            "labels are drawn as often as the data have them: train without them": (
                self.conditional and not self.private_labels
            ),
        }
        for reason, given in reasons.items():
            if given:
                raise UserError(f"private.epsilon: {reason}")

    def row_loss(self, turn: Turn, unseen: Unseen, step: int) -> RowLoss:
        """A real sample's share of `discriminator_loss`: it and a fake, and the penalties that are due."""
        with torch.no_grad():
            fake = self.disturb(self.draw(unseen), step)
        label = self.label(unseen)
        fakes = (fake,) if label is None else (fake, label)

        def loss(judge: Callable[..., Tensor], own: Rows, against: Rows) -> Tensor:
            (real, *label), (fake, *other) = own, against
            real_logits, fake_logits = judge(real, *label), judge(fake, *other)
            if self.options.label_noise:
                real_logits, fake_logits = flip_labels(real_logits, fake_logits, self.options.label_noise)
            total = self.adversarial.discriminator(real_logits, fake_logits)
            played = PlayedRow(lambda samples: judge(samples, *label), real, fake)
            for penalty in self.penalties:
                if penalty.due(step):
                    total = total + penalty.term(played, step)
            return total

        return RowLoss(self.discriminator, fakes, lambda batch: self.own_rows(batch, step), loss)

    def own_rows(self, batch: Batch, step: int) -> Rows:
        """Of real samples, what the discriminator is told of each: it, and its label."""
        real, label = self.disturb(batch["data"], step), self.label(batch)
        return (real,) if label is None else (real, label)

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """Adversarial loss of fakes, and of their real partners where the loss is relativistic."""
        label = self.label(batch)
        fake = batch.memo.pop("fake", None)
        if fake is None:
            fake = self.draw(batch)
        fake_logits, fake_features = self.look(self.disturb(fake, step), label)
        real_logits = None
        if self.adversarial.relativistic:
            with torch.no_grad():  # the generator cannot move these
                real_logits, _ = self.look(self.disturb(batch["data"], step), label)
        losses = Losses({"adversarial": self.adversarial.generator(real_logits, fake_logits)})
        self.add_generator_terms(losses, batch, fake_features)
        return losses

    def draw(self, batch: Batch) -> Tensor:
        """Fakes to set against `batch`, with its labels where the game is conditional."""
        return self.sample(batch.count, self.label(batch))

    @torch.no_grad()
    def draw_unseen(self, batch: Batch) -> Tensor:
        """More fakes for `batch`, that no loss moves."""
        return self.draw(batch)

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The discriminator's logits, and its features where a subclass has further heads on them."""
        return self.discriminator(samples, label), None

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """What a subclass's discriminator minimises besides; real, fake: features, (N, F)."""

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """What a subclass's generator minimises besides; fake: features, (N, F)."""

    def disturb(self, samples: Tensor, step: int) -> Tensor:
        """The change of both sides; and instance noise (Sønderby et al. 2017), falling to nothing over `instance_noise_steps`."""
        samples = self.both_sides(samples)
        deviation = self.options.instance_noise
        if deviation and self.options.instance_noise_steps:
            deviation = anneal(deviation, 0.0, step, self.options.instance_noise_steps)
        return samples + deviation * chance.normal_like(samples) if deviation else samples

    def label(self, batch: Batch) -> Tensor | None:
        """The batch's labels where the game is conditional: fakes are drawn for the same ones. Of unseen data, drawn ones."""
        if not self.conditional:
            return None
        if isinstance(batch, Unseen):
            if "label" not in batch.memo:
                batch.memo["label"] = self.draw_labels(batch.count)
            return batch.memo["label"]
        return batch["label"]

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents, (count, L)."""
        if self.latent_distribution == "uniform":
            return chance.uniform(count, self.latent, device=self.device, rng=rng) * 2 - 1
        return chance.normal(count, self.latent, device=self.device, rng=rng)

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Draw from the generator."""
        return self.decode(self.noise(count, rng), label)

    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Samples of codes (N, L), in the units that the discriminator sees."""
        return self.generator(code, label)

    def draw_labels(self, count: int, rng: torch.Generator | None = None, condition: Tensor | None = None) -> Tensor:
        """Labels as often as the training data has them, (count,) or (count, K).

        condition: what is asked for, as `Labels.ask` gives it for each sample: drawn is only what it leaves open.
        """
        if condition is not None:
            condition = condition.to(self.device)
        if self.label_table is None or not self.label_table.open(condition):
            assert condition is not None, "an unconditional game has no labels to draw"
            return condition
        if self.label_table.kind == "classes":
            return chance.choices(self.label_weights, count, rng)
        return self.label_table.draw_rows(count, condition, self.device, rng)

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Latents as `code`, and their `label` where the game is conditional; truncated as BigGAN's."""
        codes = Batch()
        if self.conditional:
            codes["label"] = self.draw_labels(count, rng, condition)
        codes["code"] = truncate_latents(self.noise(count, rng), truncation, self.latent_distribution)
        return codes

    def render(self, codes: Batch) -> Batch:
        """Samples as `data`, and their `label` where the game is conditional."""
        samples = Batch(data=self.decode(codes["code"], self.label(codes)).float())
        return Batch({**samples, **{name: value for name, value in codes.items() if name != "code"}})

    def inputs(self) -> list[Input]:
        """What the generator is a function of."""
        latent = Noise("latent", self.latent, self.latent_distribution)
        if self.label_table is None:
            return [latent]
        classes = self.label_table.kind == "classes"
        return [latent, Choice("label", self.classes) if classes else Vector("label", self.label_table)]

    def exportable(self) -> Exportable | None:
        """The generator."""
        return Exportable(self.generator, *self.inputs())

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """Without the rows of labels, which are samples of the data."""
        return replace(spec, extra={key: value for key, value in spec.extra.items() if key != "label_rows"})

    @torch.no_grad()
    def watch(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """What the logits say about the state of the game."""
        figures = standing(real_logits.float(), fake_logits.float())
        self.accuracy.lerp_(figures["accuracy"], 0.1)
        return figures


def standing(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How far apart real and fake logits are: their means over the whole batch, and the share of them on the right side.

    A critic's zero means nothing, so for every loss a logit is right when it lies on its own side of the midpoint.
    """
    real_mean, fake_mean = processes.mean(torch.stack([real.mean(), fake.mean()]))
    middle = (real_mean + fake_mean) / 2
    accuracy = processes.mean(((real > middle).float().mean() + (fake <= middle).float().mean()) / 2)
    return {"real_logit": real_mean, "fake_logit": fake_mean, "accuracy": accuracy}


def mixes_samples(module: nn.Module) -> bool:
    """Whether a sample's output depends on the other samples of its batch.

    It does where there is a batch norm, or a layer that says so of itself by an attribute `mixes_samples`.
    """
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "mixes_samples", False)
        for part in module.modules()
    )
