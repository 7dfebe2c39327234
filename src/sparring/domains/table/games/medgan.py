"""medGAN (Choi et al. 2017): patients' codes, 0 and 1 or counts, made through the decoder of an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pydantic
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from sparring.core import processes
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.table.columns import Column
from sparring.domains.table.data import columns_of
from sparring.domains.table.metrics.dimensions import one_of
from sparring.domains.table.rows import spans_of, values_of
from sparring.errors import UserError
from sparring.nn.layers import require_positive
from sparring.options import validate
from sparring.recipe import Recipe, Section


class MedganOptions(Section):
    """The recipe's `model` section."""

    latent: int = pydantic.Field(128, ge=1)
    code: int = pydantic.Field(128, ge=1, description="numbers of the autoencoder's code")
    depth: int = pydantic.Field(2, ge=1, description="shortcut layers of the generator")
    discriminator: list[int] = pydantic.Field([256, 128], min_length=1, description="widths of its layers")
    pretraining: int = pydantic.Field(
        100, ge=0, description="steps of the autoencoder alone; the game is played after them"
    )
    averaging: bool = pydantic.Field(True, description="the discriminator sees the mean of the batch beside each row")
    hard: bool = pydantic.Field(
        True, description="the discriminator sees 0 and 1, with the gradient of what lies between them"
    )


class Codes:
    """Encoded rows ↔ matrices of codes (N, K): 0 and 1, or counts, these in units of their root mean square.

    Of a column of two categories that are no numbers the rarer one is 1: a code that a patient has. Raises UserError for
    columns of another kind.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.spans = spans_of(columns)
        for span in self.spans:
            column = span.column
            if column.kind == "category" and column.size <= 2:
                continue
            if column.kind == "integer" and column.low >= 0 and not column.missing:
                continue
            raise UserError(
                f"medgan-records plays on columns of two values or of counts, and {column.name!r} is none: "
                f"leave it out with --set data.columns.{column.name}.kind=drop, or train ctgan"
            )
        self.counts = torch.tensor([bool(span.column.places) for span in self.spans])
        self.scale = torch.tensor(
            [_root_mean_square(span.column) if span.column.places else 1.0 for span in self.spans]
        )
        # Which category is 1.
        self.ones = [one_of(span.column) for span in self.spans]
        self.width = self.spans[-1].hot.stop

    def of(self, rows: Tensor) -> Tensor:
        """Encoded rows (N, D) → codes (N, K), float32."""
        parts = [
            values_of(rows, span)[0].float() if span.column.places else rows[:, span.hot.start + one]
            for span, one in zip(self.spans, self.ones, strict=True)
        ]
        return torch.stack(parts, 1) / self.scale.to(rows.device)

    def whole(self, codes: Tensor) -> Tensor:
        """Codes (N, K) at the nearest that there is."""
        scale, counts = self.scale.to(codes.device), self.counts.to(codes.device)
        return torch.where(counts, (codes * scale).round() / scale, (codes > 0.5).to(codes.dtype))

    def back(self, codes: Tensor) -> Tensor:
        """Codes (N, K) → encoded rows (N, D), float32."""
        rows = torch.zeros(len(codes), self.width, device=codes.device)
        values = (self.whole(codes) * self.scale.to(codes.device)).double().cpu()
        every = torch.arange(len(codes))
        for place, (span, one) in enumerate(zip(self.spans, self.ones, strict=True)):
            if not span.column.places:
                there = values[:, place] > 0
                rows[every, span.hot.start + torch.where(there, one, (span.column.size - 1) - one)] = 1
                continue
            number, inside = span.column.code_numbers(values[:, place].round().clamp(min=span.column.low).numpy())
            rows[every, span.hot.start + torch.from_numpy(number)] = 1
            rows[:, span.start] = torch.from_numpy(inside).to(rows)
        return rows


class Decoder(nn.Module):
    """Codes of the autoencoder (N, code) → logits of 0 and 1, or counts not below 0 (N, K)."""

    def __init__(self, code: int, counts: Tensor) -> None:
        super().__init__()
        self.out = nn.Linear(code, len(counts))
        self.register_buffer("counts", counts, persistent=False)

    counts: Tensor

    def forward(self, code: Tensor) -> Tensor:
        made = self.out(code)
        return torch.where(self.counts, made.relu(), made)

    def values(self, code: Tensor) -> Tensor:
        """What the logits say: between 0 and 1, or counts (N, K)."""
        made = self(code)
        return torch.where(self.counts, made, made.sigmoid())


class Autoencoder(nn.Module):
    """Codes of patients (N, K) → the same (N, K), as `Decoder` gives them, through `code` numbers (section 3.2)."""

    def __init__(self, decoder: Decoder, count: int, code: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(count, code), decoder

    def forward(self, codes: Tensor) -> Tensor:
        code = self.encoder(codes)
        # As in the paper: tanh for 0 and 1, ReLU for counts.
        return self.decoder(code.relu() if bool(self.decoder.counts.any()) else code.tanh())


class ShortcutGenerator(nn.Module):
    """Latents (N, latent) → codes of patients (N, K): linear layers with batch norm and shortcuts, then the decoder (section 3.4)."""

    def __init__(self, decoder: Decoder, latent: int, code: int, depth: int) -> None:
        super().__init__()
        require_positive(depth=depth)
        self.layers = nn.ModuleList(nn.Linear(latent, latent, bias=False) for _ in range(depth - 1))
        self.norms = nn.ModuleList(nn.BatchNorm1d(latent) for _ in range(depth - 1))
        self.last, self.last_norm = nn.Linear(latent, code, bias=False), nn.BatchNorm1d(code)
        self.decoder, self.shortcut = decoder, latent == code

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = latent
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + norm(layer(x)).relu()
        x_last = self.last_norm(self.last(x))
        x_last = x_last.relu() if bool(self.decoder.counts.any()) else x_last.tanh()
        return self.decoder.values(x_last + x if self.shortcut else x_last)


class AveragingDiscriminator(nn.Module):
    """Codes of patients (N, K), each beside the mean of the batch (section 3.3) → logits (N,).

    From the mean it sees what a single patient cannot show: that all fakes are alike.
    """

    def __init__(self, count: int, widths: Sequence[int], *, averaging: bool) -> None:
        super().__init__()
        self.mixes_samples = averaging
        sizes = [2 * count if averaging else count, *widths]
        layers: list[nn.Module] = []
        for before, after in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        if self.mixes_samples:
            codes = torch.cat([codes, processes.mean(codes.mean(0)).expand_as(codes)], 1)
        return self.body(codes).squeeze(1)


class MedGAN(AdversarialGame):
    """Two phases: an autoencoder learns the data's codes; then a generator plays in its code, and moves the decoder along.

    Batches come and samples go as encoded rows; the networks see `Codes`. It is not asked for anything: the paper's patients
    have no conditions.
    """

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {
            "model": validate(MedganOptions, recipe.model, where="model"),
            "loss": LossOptions.resolve(recipe.loss),
        }

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError for a table of other columns."""
        options = MedganOptions(**validate(MedganOptions, recipe.model, where="model"))
        codes = Codes(columns_of(spec))
        count = len(codes.spans)
        decoder = Decoder(options.code, codes.counts)
        return cls(
            ShortcutGenerator(decoder, options.latent, options.code, options.depth),
            AveragingDiscriminator(count, options.discriminator, averaging=options.averaging),
            autoencoder=Autoencoder(decoder, count, options.code),
            codes=codes,
            options=options,
            latent=options.latent,
            loss=LossOptions(**validate(LossOptions, recipe.loss, where="loss")),
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        autoencoder: Autoencoder,
        codes: Codes,
        options: MedganOptions,
        **rules: Any,
    ) -> None:
        super().__init__(generator, discriminator, **rules)
        self.autoencoder, self.codes = autoencoder, codes
        self.pretraining, self.hard = options.pretraining, options.hard

    def players(self) -> dict[str, nn.Module]:
        """The decoder is the autoencoder's, and after that phase the generator's."""
        return {**super().players(), "autoencoder": self.autoencoder}

    def turns(self, step: int) -> Sequence[Turn]:
        """The phases."""
        return (Turn("autoencoder"),) if step < self.pretraining else super().turns(step)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game, or the reconstruction, on matrices of codes."""
        if "codes" not in batch.memo:
            batch.memo["codes"] = self.codes.of(batch["data"])
        inner = Batch(data=batch.memo["codes"])
        inner.memo = batch.memo
        if turn.player == "autoencoder":
            return Losses({"reconstruction": self.reconstruction(inner["data"])})
        return super().loss(turn, inner, step)

    def reconstruction(self, codes: Tensor) -> Tensor:
        """Cross entropy of 0 and 1, square error of counts: eqs. 1 and 2, summed over codes, a mean over patients."""
        made, counts = self.autoencoder(codes), self.codes.counts.to(codes.device)
        cross = binary_cross_entropy_with_logits(made, codes.clamp(0, 1), reduction="none")
        return torch.where(counts, mse_loss(made, codes, reduction="none"), cross).sum(1).mean()

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Codes of patients (count, K) as the discriminator sees them."""
        made = super().sample(count, label, rng)
        return made + (self.codes.whole(made) - made).detach() if self.hard else made

    def render(self, codes: Batch) -> Batch:
        """Encoded rows as `data` (N, D)."""
        return Batch(data=self.codes.back(self.decode(codes["code"], None).float()))

    def exportable(self) -> Exportable | None:
        """None: a row means something only to `sparring generate`, which knows the columns."""
        return None


def _root_mean_square(column: Column) -> float:
    bins, shares = np.array(column.bins), np.array(column.shares)
    middle = (bins[1:] + bins[:-1]) / 2 if len(bins) else np.zeros(1)
    return float(np.sqrt((np.square(middle) * (shares if len(shares) else 1.0)).sum())) or 1.0
