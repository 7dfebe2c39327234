"""What samples know of labels (Esteban et al. 2017, section 4): classifiers that learn on one side and are asked on the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

WIDTH, ROUNDS, RATE, BATCH = 32, 600, 3e-3, 128


class _Reader(nn.Module):
    """Windows (N, T, F), of which each has its own length (N,) → logits of classes (N, K)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.states = nn.GRU(inputs, WIDTH, batch_first=True)
        self.head = nn.Linear(2 * WIDTH, classes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        states, _ = self.states(x)
        own = mask[:, :, None]
        last = states[torch.arange(len(x)), mask.sum(1).long() - 1]
        return self.head(torch.cat([(states * own).sum(1) / own.sum(1), last], 1))


def transfer(
    learnt: tuple[Tensor, Tensor, Tensor], asked: tuple[Tensor, Tensor, Tensor], classes: int, seed: int
) -> float:
    """Accuracy on one side of a recurrent network that learnt on the other.

    learnt, asked: windows (N, T, F) between 0 and 1, masks (N, T), labels (N,). The torch generator is left as it was.
    """
    x, mask, label = learnt
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        reader = _Reader(x.shape[2], classes).to(x.device)
        optimizer = torch.optim.Adam(reader.parameters(), lr=RATE)
        for _ in range(ROUNDS):
            some = torch.randint(len(x), (min(BATCH, len(x)),), device=x.device)
            optimizer.zero_grad()
            cross_entropy(reader(x[some], mask[some]), label[some]).backward()
            optimizer.step()
        with torch.no_grad():
            return float((reader(asked[0], asked[1]).argmax(1) == asked[2]).float().mean())
