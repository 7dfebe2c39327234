"""Exports of games that make images from images: an image in, an image out, of any size where that can be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring import api
from sparring.core.exportable import ImageFunction, Picture
from sparring.core.game import Batch, DataSpec
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.exporting import onnx_model
from sparring.exporting.function import generator_function
from sparring.exporting.program import settle_sizes, trace
from sparring.exporting.weights import load_generator
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.trained import Trained
from sparring.training.checkpoint import save_checkpoint

torch.set_num_threads(1)

UNET = "model.generator={name: unet, width: 2, depth: 3}"
LABELS = {
    "kind": "labels", "channels": 4, "values": [0, 1, 7], "classes": ["road", "sky", "car"], "void": None,
    "palette": [[0, 0, 0], [9, 9, 9], [99, 99, 99]], "edges": True,
}  # fmt: skip


def trained(facts: dict[str, Any] | None = None) -> Trained:
    """A small pix2pix with random weights."""
    extra = {"paired": True, "sides": ["A", "B"], "input": facts or {"kind": "image", "channels": 3}}
    spec = DataSpec((3, 16, 24), (), 8, extra)
    recipe = api.resolve(load_recipe("pix2pix").override([UNET], data={"source": "photos"}))
    torch.manual_seed(0)
    game = open_domain("translation").build_game(recipe, spec).eval()
    for value in game.parameters():
        if value.ndim == 4:
            nn.init.normal_(value, std=0.2)
    return Trained(game, open_domain("translation"), recipe, spec, 20)


def written(folder: Path, subject: Trained) -> Path:
    run = Run.create(folder, subject.recipe, subject.spec, "0123abcd")
    weights = {f"generator.{key}": value for key, value in subject.game.averaged()["generator"].state_dict().items()}
    save_checkpoint(run.checkpoints, 20, {"weights": weights}, {"state": {"best": {}}})
    return folder


@pytest.fixture(scope="module")
def subject() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, subject: Trained) -> Path:
    folder = written(tmp_path_factory.mktemp("runs") / "pix2pix-1", subject)
    assert sparring.export(folder, format="onnx").facts["difference"] < 1e-4
    return folder


def test_what_leaves_is_what_translate_makes_without_the_noise(subject: Trained) -> None:
    function = generator_function(subject)
    (source,) = function.inputs
    assert isinstance(source, Picture) and (source.channels, source.size, source.stride) == (3, (16, 24), 8)
    inputs = function.draw(2, seed=0)
    with torch.no_grad():
        made = function(**inputs)
        assert torch.allclose(made, subject.game.translate(Batch(inputs))["data"], atol=1e-6)
    assert made.shape == (2, 3, 16, 24) and made.std() > 0.01


@pytest.mark.parametrize("size", [(16, 24), (8, 8), (40, 64)])
def test_onnx_takes_pictures_of_any_size(run: Path, subject: Trained, size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    form = onnx_model.in_onnxruntime((run / "export" / "generator.onnx").read_bytes())
    with torch.no_grad():
        ours = generator_function(subject)(source=picture)
    assert torch.allclose(form({"source": picture}), ours, atol=1e-4)


def test_the_description_says_what_goes_in(run: Path) -> None:
    said = json.loads((run / "export" / "generator.onnx.json").read_text())
    assert said["inputs"] == [
        {
            "name": "source", "dtype": "float32", "shape": ["batch", 3, "height", "width"], "values": "images in [-1, 1]",
            "trained_on": [16, 24], "multiples_of": 8,
        }
    ]  # fmt: skip
    assert said["output"]["shape"] == ["batch", 3, "height", "width"]


def test_the_snippet_of_the_card_runs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = re.search(r"```python\n(.*?)```", (run / "export" / "MODEL_CARD.md").read_text(), re.DOTALL)
    assert snippet is not None
    monkeypatch.chdir(run / "export")
    names: dict[str, Any] = {}
    exec(snippet[1], names)
    assert tuple(names["samples"].shape) == (16, 3, 16, 24) and np.isfinite(names["samples"]).all()


def test_label_maps_are_channels_of_classes_and_weights_come_back(tmp_path: Path) -> None:
    subject = trained(LABELS)
    result = sparring.export(written(tmp_path / "run", subject), format="safetensors")
    function = load_generator(result.files[0])
    (source,) = function.inputs
    assert isinstance(source, Picture) and source.classes == ("road", "sky", "car") and source.channels == 4
    drawn = function.draw(3, seed=0)["source"]
    assert torch.equal(drawn[:, :3].sum(1), torch.ones(3, 16, 24)) and set(drawn.unique().tolist()) == {0, 1}
    with torch.no_grad():
        assert torch.allclose(function(source=drawn), generator_function(subject)(source=drawn))


class Fixed(nn.Module):
    """Knows one size only."""

    def forward(self, source: Tensor) -> Tensor:
        return source + torch.arange(12.0).reshape(3, 4)


def test_a_generator_of_one_size_is_held_to_it() -> None:
    function = ImageFunction(Fixed(), Picture("source", 1, (3, 4)))
    settle_sizes(function)
    (source,) = function.inputs
    assert isinstance(source, Picture) and source.fixed and source.plain()["shape"] == ["batch", 1, 3, 4]
    assert function.draw(2, seed=0, more=3)["source"].shape == (2, 1, 3, 4)
    trace(function)


def test_a_game_that_translates_in_another_way_than_it_exports_is_refused() -> None:
    subject = trained()
    game: Any = subject.game
    game.finish = lambda source, made: made + 0.25
    with pytest.raises(UserError, match="PairedGame translates in another way than its `exportable"):
        generator_function(subject)


def test_drawn_pictures_have_detail_at_every_scale() -> None:
    drawn = Picture("source", 3, (64, 64)).draw(4, torch.Generator().manual_seed(0))
    assert drawn.abs().max() <= 1 and 0.3 < drawn.std() < 0.6
    near, far = (float((drawn[..., step:] - drawn[..., :-step]).abs().mean()) for step in (1, 16))
    assert 0.1 * far < near < 0.5 * far
