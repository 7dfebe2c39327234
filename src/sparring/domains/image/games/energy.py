"""Energy-based games: the discriminator is an autoencoder, and the energy of an image the error of its reconstruction."""

from __future__ import annotations

from dataclasses import replace

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.core.passes import precise
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, look_with_features
from sparring.domains.image.networks.autoencoder import AutoencoderDiscriminator
from sparring.errors import UserError


class EnergyOptions(ModelOptions):
    """`model` of the energy-based game."""

    pulling_away: float = pydantic.Field(0.0, ge=0, description="weight of the pulling-away term on the fakes' codes")


class EnergyGame(ImageGame):
    """EBGAN (Zhao et al. 2017): low energy for real images, at least the margin for fakes; the loss `margin` says so.

    The pulling-away term (eq. 5) keeps the fakes' codes apart, which is EBGAN-PT.
    """

    options_model: type[ModelOptions] = EnergyOptions

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator. Raises UserError for one that is no autoencoder."""
        discriminator = super().build_discriminator(shape, options, classes)
        if not isinstance(discriminator, AutoencoderDiscriminator):
            raise UserError(
                f"model.discriminator.name: an energy-based game needs an autoencoder (dcgan_autoencoder, began), "
                f"not {options.discriminator['name']!r}"
            )
        return discriminator

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Take the weight of the pulling-away term."""
        self.pulling_away = options.pulling_away if isinstance(options, EnergyOptions) else 0.0

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The energies' negatives, and the codes."""
        logits, features = look_with_features(self.discriminator, samples, label)
        return logits, AutoencoderDiscriminator.codes(features)

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The pulling-away term."""
        if self.pulling_away and fake is not None:
            losses["pulling_away"] = self.pulling_away * pulling_away(fake)


def pulling_away(codes: Tensor) -> Tensor:
    """EBGAN-PT (Zhao et al. 2017, eq. 5): the mean of cos²(sᵢ, sⱼ) over all pairs i ≠ j of codes (N, L), a scalar.

    The sum over all pairs is N² times the squared norm of E[s sᵀ] for s of length 1, so that several processes need to
    share that one mean. Of a single code there are no pairs, and the term is 0.
    """
    group = processes.current()
    count = len(codes) * (group.world if group else 1)
    if count < 2:
        return codes.sum() * 0
    unit = nn.functional.normalize(precise(codes), dim=1)
    together = processes.mean(unit.T @ unit / len(unit))
    return (count * together.square().sum() - 1) / (count - 1)


class EquilibriumOptions(ModelOptions):
    """`model` of the game with an equilibrium."""

    diversity: float = pydantic.Field(0.5, gt=0, le=1, description="γ: E[L(G(z))] / E[L(x)] that the game is held at")
    gain: float = pydantic.Field(0.001, gt=0, description="λ_k: how fast k moves")


class EquilibriumGame(EnergyGame):
    """BEGAN (Berthelot et al. 2017, section 3.4): L_D = L(x) − k·L(G(z)), L_G = L(G(z)), and k holds the balance.

    After each of the generator's turns k moves by λ_k (γ L(x) − L(G(z))) within [0, 1]. These are the sides of the loss
    `wasserstein` with the fakes weighted by k. The figure `convergence` is L(x) + |γ L(x) − L(G(z))|, M_global in
    section 3.4.1, which falls as samples get better.
    """

    options_model = EquilibriumOptions
    balance: Tensor
    real_energy: Tensor
    heard: Tensor

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Weigh the fakes in the discriminator's loss, and listen to both sides."""
        super().complete(options, spec)
        assert isinstance(options, EquilibriumOptions)
        if self.options.name != "wasserstein":
            raise UserError(f"loss.name: the two sides of BEGAN are those of 'wasserstein', not {self.options.name!r}")
        self.diversity, self.gain = options.diversity, options.gain
        self.register_buffer("balance", torch.zeros(()))  # k_t
        # Known anew within each step before they are asked for: the mean energy of the last real batch, and the sum and
        # count of those that a turn has seen, in as many parts as its batch is cut into.
        self.register_buffer("real_energy", torch.zeros(()), persistent=False)
        self.register_buffer("heard", torch.zeros(2), persistent=False)
        self.plain = self.adversarial
        self.adversarial = replace(self.plain, discriminator=self.discriminator_side, generator=self.generator_side)

    def discriminator_side(self, real: Tensor, fake: Tensor) -> Tensor:
        """L(x) − k·L(G(z)), of logits."""
        self.hear(real)
        return self.plain.discriminator(real, self.balance * fake)

    def generator_side(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """L(G(z)), of logits."""
        self.hear(fake)
        return self.plain.generator(real, fake)

    @torch.no_grad()
    def hear(self, logits: Tensor) -> None:
        """Count the energies of a part of a turn's batch."""
        self.heard += torch.stack([-logits.float().sum(), logits.new_tensor(float(len(logits))).float()])

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """The plain one; and how far the game is."""
        losses = super().generator_loss(batch, step)
        fake = processes.mean(self.heard[0] / self.heard[1])
        losses.watch |= {"balance": self.balance.clone(), "convergence": self.convergence(fake)}
        return losses

    def convergence(self, fake: Tensor) -> Tensor:
        """M_global of the last real batch's energy and that of fakes, a scalar."""
        return self.real_energy + (self.diversity * self.real_energy - fake).abs()

    def after_turn(self, turn: Turn, step: int) -> None:
        """Move k when the generator has played."""
        super().after_turn(turn, step)
        energy = processes.mean(self.heard[0] / self.heard[1])
        self.heard.zero_()
        if turn.player == "discriminator":
            self.real_energy.copy_(energy)
        else:
            self.balance.add_(self.gain * (self.diversity * self.real_energy - energy)).clamp_(0, 1)
