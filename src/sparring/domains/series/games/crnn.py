"""C-RNN-GAN (Mogren 2016): an LSTM that is fed what it has just made, judged by one that reads both ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.core.losses import logistic_discriminator, non_saturating_generator
from sparring.domains.series.games.series_game import SeriesGame, own_steps
from sparring.nn.layers import require_positive

AT_FIRST = 0.6931  # the cross entropy of a judge who knows nothing


class Feedback(nn.Module):
    """Noise (N, T, inputs) → windows (N, T, outputs) between −1 and 1; each step sees the output of the one before."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        sizes = [inputs + outputs, *[width] * (depth - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(size, width) for size in sizes)
        self.head = nn.Linear(width, outputs)
        self.width = width

    def forward(self, noise: Tensor) -> Tensor:
        zeros = noise.new_zeros(len(noise), self.width)
        states = [(zeros, zeros) for _ in self.cells]
        made = noise.new_zeros(len(noise), self.head.out_features)
        steps = []
        for step in noise.unbind(1):
            below = torch.cat([step, made], 1)
            for number, cell in enumerate(self.cells):
                states[number] = cell(below, states[number])
                below = states[number][0]
            made = self.head(below).tanh()
            steps.append(made)
        return torch.stack(steps, 1)


class TwoWays(nn.Module):
    """Windows (N, T, inputs) → logits (N, T) and the states (N, T, 2·width) that they are read off."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        self.states = nn.LSTM(inputs, width, depth, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if mask is None:
            states, _ = self.states(x)
        else:
            # The way back begins at a window's own last step.
            packed = pack_padded_sequence(x, mask.sum(1).long().cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.states(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.head(states).squeeze(2), states


class CRNN(SeriesGame):
    """The generator matches the mean of what the discriminator's states are (feature matching), and a player rests where the
    other has fallen behind (section 3).

    latent: numbers of noise a step, uniform on [0, 1). width, depth: of both networks. matching: weight of feature
    matching; adversarial: of the generator's cross entropy, which the paper leaves out where it matches features. freezing: a
    player rests while its cross entropy is below this share of the other's; 0: never.
    Not as in the paper: features are matched in their means over the batch and over steps (Salimans et al. 2016), where theirs
    pair a sample with one of the data, which asks all samples to be the mean of the data.
    """

    pads = conditional = uniform = True
    standing: Tensor

    def __init__(
        self, spec: DataSpec,
        *, latent: int = 5, width: int = 100, depth: int = 2, matching: float = 1.0, adversarial: float = 1.0,
        freezing: float = 0.7,
    ) -> None:  # fmt: skip
        super().__init__(spec, noise_size=latent)
        self.matching, self.adversarial, self.freezing = matching, adversarial, freezing
        self.generator = Feedback(latent + self.given_size, self.size, width, depth)
        self.discriminator = TwoWays(self.size + self.given_size, width, depth)
        # Cross entropies of discriminator and generator, as their last turns saw them. A buffer, so that a resumed run rests as well.
        self.register_buffer("standing", torch.full((2,), AT_FIRST))

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        """Both, but for one that is too far ahead; never none."""
        discriminator, generator = self.standing.tolist()
        if discriminator < self.freezing * generator:
            return (Turn("generator"),)
        if generator < self.freezing * discriminator:
            return (Turn("discriminator"),)
        return (Turn("discriminator"), Turn("generator", fresh=False))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Cross entropy, its mean over steps; the generator's with feature matching (section 3.1)."""
        given, mask = self.given_of(batch), batch.get("mask")
        generating = turn.player == "generator"
        with torch.set_grad_enabled(generating):
            noise = self.noise(batch.count)
            fake = self.decode(noise if given is None else torch.cat([noise, given], 2))
        fake_logits, fake_states = self._judge(fake, given, mask)
        with torch.set_grad_enabled(not generating):
            real_logits, real_states = self._judge(batch["data"], given, mask)
        judged = logistic_discriminator(real_logits, fake_logits)
        fooled = non_saturating_generator(None, fake_logits)
        with torch.no_grad():
            # Of one cross entropy, halved, as the generator's is of one side alone.
            self.standing.copy_(processes.mean(torch.stack([judged / 2, fooled])))
        if not generating:
            return Losses({"adversarial": judged})
        apart = processes.mean(fake_states.mean(0)) - processes.mean(real_states.mean(0))
        return Losses(
            {"adversarial": self.adversarial * fooled, "matching": self.matching * apart.square().mean()},
            watch={"discriminator": self.standing[0].clone()},
        )

    def decode(self, noise: Tensor) -> Tensor:
        """tanh, brought to [0, 1]."""
        return (self.generator(noise) + 1) / 2

    def _judge(self, data: Tensor, given: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits and states (n, …) of own steps; states as their means over these, (N, 2·width)."""
        seen = 2 * data - 1
        logits, states = self.discriminator(seen if given is None else torch.cat([seen, given], 2), mask)
        if mask is None:
            return logits, states.mean(1)
        return own_steps(logits, mask), (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
