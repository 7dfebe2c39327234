"""Perceptual path lengths of generators, as `sparring evaluate` gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sparring import api
from sparring.core.game import Batch, Game
from sparring.domains.image import paths
from sparring.errors import UserError

torch.set_num_threads(1)


class Linear(Game):
    """Images are a linear function of the codes; each label has a picture of its own."""

    def __init__(self, *code: int) -> None:
        super().__init__()
        self.code = code
        self.weight = nn.Parameter(torch.randn(int(torch.tensor(code).prod()), 2 * 4 * 4))
        self.asked: list[Batch] = []
        self.seen: list[Tensor] = []

    def draw_codes(self, count: int, *, condition: Tensor | None = None, rng=None, truncation: float = 1.0) -> Batch:
        label = torch.randint(5, (count,), generator=rng) if condition is None else condition
        self.asked.append(Batch(code=torch.randn(count, *self.code, generator=rng), label=label))
        return self.asked[-1]

    def render(self, codes: Batch) -> Batch:
        self.seen.append(codes["label"])
        images = (codes["code"].flatten(1).to(self.weight.dtype) @ self.weight).unflatten(1, (2, 4, 4))
        return Batch(data=images + 10 * codes["label"][:, None, None, None])


def test_of_a_linear_generator_a_path_is_as_long_as_its_ends_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PATHS", 20)
    torch.manual_seed(0)
    game = Linear(3, 2).double()
    with torch.no_grad():
        seen = paths.probe(game, 0)
    ends = game.asked[1:]  # the first was to see what codes look like
    assert [end.count for end in ends] == [16, 16, 4, 4]
    expected = torch.cat([
        ((one["code"] - other["code"]).double().flatten(1) @ game.weight.detach() / 2).square().mean(1)
        for one, other in (ends[:2], ends[2:])
    ])  # fmt: skip
    torch.testing.assert_close(seen.rows["features"][:, 0], expected, rtol=5e-3, atol=0)
    assert seen.facts == {"distance": "mean squared difference of pixels in [0, 1]", "space": "w"}
    # One label a path: the pictures of labels would lie in between otherwise.
    assert all(torch.equal(one["label"], other["label"]) for one, other in (ends[:2], ends[2:]))
    assert torch.equal(game.seen[1], ends[0]["label"]) and torch.equal(game.seen[-1], ends[-1]["label"])


def test_latents_go_along_great_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PATHS", 4)
    assert paths.probe(Linear(6), 0).facts["space"] == "z"


def test_evaluate_gives_the_length_of_a_run_and_asks_for_one(tmp_path: Path) -> None:
    small = [
        "train.steps=1",
        "train.batch_size=8",
        "model.latent=6",
        "model.generator.width=4",
        "model.generator.code=8",
    ]
    api.train("stylegan2", out=tmp_path / "run", set=[*small, "model.discriminator.width=4"], quiet=True, device="cpu")
    found = api.evaluate(tmp_path / "run", metrics="path_length", features="pixels", count=16)
    figure = found.figures["path_length"]
    assert figure.value > 0 and figure.interval is not None and figure.interval[0] < figure.value < figure.interval[1]
    assert (figure.real, figure.fake, figure.features) == (0, 1000, "samples")
    assert figure.facts["space"] == "w"
    again = api.evaluate(tmp_path / "run", metrics="path_length", features="pixels", count=16)
    assert again.figures["path_length"].value == figure.value
    usual = api.evaluate(tmp_path / "run", features="pixels", count=16)
    assert "path_length" not in usual.figures

    (tmp_path / "files").mkdir()
    for number in range(4):
        Image.new("L", (8, 8), 60 * number).save(tmp_path / "files" / f"{number}.png")
    with pytest.raises(UserError, match="path_length needs a run, whose generator it looks at"):
        api.evaluate(tmp_path / "files", data="digits", metrics="path_length", features="pixels")


def test_a_game_without_codes_is_one_line_of_error() -> None:
    class Plain(Linear):
        def generate(self, count: int, *, condition: Tensor | None = None, rng=None) -> Batch:
            return Batch()

    with pytest.raises(UserError, match="path_length needs codes to walk along, and Plain draws its samples without"):
        paths.probe(Plain(3), 0)
