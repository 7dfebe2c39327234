"""Exports: what other programs load draws the samples that the game draws, or nothing is left behind."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparring
from shell import sparring as shell
from sparring import api
from sparring.core.exportable import Exportable, Noise
from sparring.core.game import Batch, DataSpec, Game
from sparring.domains import open_domain
from sparring.domains.image.games.adversarial import ImageGame
from sparring.errors import UserError
from sparring.exporting import agreement, onnx_model
from sparring.exporting.function import describe, generator_function, with_plain_weights
from sparring.exporting.quantize import to_bf16
from sparring.exporting.weights import load_generator, to_safetensors
from sparring.recipe import load_recipe, named_recipes
from sparring.run import Run
from sparring.trained import Trained
from sparring.training.checkpoint import save_checkpoint

torch.set_num_threads(1)

CLASSES = ("cat", "dog", "emu")
IMAGES = DataSpec((1, 8, 8), CLASSES, 60, {"label_counts": [10.0, 20.0, 30.0]})
VECTORS = DataSpec(
    (3,), (), 60, {"mean": [100.0, 0.0, 5.0], "scale": [20.0, 1.0, 0.0], "shown": [[99.0, 0.5, 5.0], [98.0, 0.25, 5.0]]}
)
SMALL = {"width": 4, "blocks": 1, "group_size": 0, "scales": 2, "rounds": 1, "depth": 1}


def trained(recipe: str, *, seed: int = 0, set: tuple[str, ...] = (), spec: DataSpec | None = None) -> Trained:
    """A game of small networks with random weights: what is exported need not have learnt anything."""
    plain = load_recipe(recipe).plain()
    known = api.resolve(load_recipe(recipe)).plain()["model"]
    for role in ("generator", "discriminator"):
        own = plain["model"].setdefault(role, {})
        own |= {key: value for key, value in SMALL.items() if key in known[role]}
    chosen = api.resolve(
        type(load_recipe(recipe)).parse(plain).override(["model.latent=6", "model.initialize.name=he", *set])
    )
    domain = open_domain(chosen.domain)
    spec = spec or (VECTORS if chosen.domain == "vector" else IMAGES)
    torch.manual_seed(seed)
    game = domain.build_game(chosen, spec).eval()
    for module in game.modules():  # running statistics as a training leaves them, and no block that is an identity
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    for name, value in game.named_parameters():
        if "project" in name:
            nn.init.normal_(value, std=0.1)
    return Trained(game, domain, chosen, spec, 20)


def written(folder: Path, subject: Trained) -> Path:
    """A run folder that holds this game."""
    run = Run.create(folder, subject.recipe, subject.spec, "0123abcd")
    weights = {
        f"{name}.{key}": value
        for name, module in subject.game.averaged().items()
        for key, value in module.state_dict().items()
    }
    best = {"step": 20, "metric": "sliced_wasserstein", "value": 0.125}
    save_checkpoint(run.checkpoints, 20, {"weights": weights}, {"state": {"best": best}})
    return folder


def samples_of(form: Callable[..., Any], inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = form(**inputs)
    return found


@pytest.fixture(scope="module")
def labelled() -> Trained:
    """A convolutional game with labels and batch norm."""
    return trained("cgan")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, labelled: Trained) -> Path:
    """Its run, which has been evaluated, and exported as ONNX."""
    folder = written(tmp_path_factory.mktemp("runs") / "cgan-1", labelled)
    figure = {
        "value": 1.5,
        "interval": [1.0, 2.0],
        "features": "pixels",
        "real": 60,
        "fake": 60,
        "higher_is_better": False,
    }
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "figures.json").write_text(
        json.dumps({"data": "digits", "checkpoint": 10, "metrics": {"fid": figure}})
    )
    assert sparring.export(folder).format == "onnx"
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> bytes:
    """The content of the ONNX file."""
    return (run / "export" / "generator.onnx").read_bytes()


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    """Translating takes seconds; the fixture has done it."""
    monkeypatch.setattr(onnx_model, "_translate", lambda function: model)


# What a game exports


# Translation draws from inputs; series are not exported yet, and rows of tables mean nothing without their columns.
DRAWING = [name for name in named_recipes() if load_recipe(name).domain not in ("translation", "series", "table")]


@pytest.mark.parametrize("recipe", DRAWING)
def test_every_recipe_exports_the_function_that_its_game_draws_from_and_weights_give_it_back(
    recipe: str, tmp_path: Path
) -> None:
    subject = trained(recipe)
    function = generator_function(subject)
    inputs = function.draw(5, seed=1)
    expected = samples_of(function, inputs)
    assert expected.shape == (5, *subject.spec.shape) and expected.std() > 0
    content, facts = to_safetensors(function, describe(subject, function, "0123abcd"))
    assert facts["difference"] == 0
    (tmp_path / "g.safetensors").write_bytes(content)
    assert torch.equal(load_generator(tmp_path / "g.safetensors")(**inputs), expected)
    owned = {name.partition(".")[0] for name in function.state_dict()}
    assert owned <= {"generator", "mapping", "mean", "scale"}, "the discriminator stays at home"


def test_vectors_leave_in_the_units_of_the_data_and_without_rows_of_it() -> None:
    subject = trained("vector-default")
    function = generator_function(subject)
    inputs = function.draw(50, seed=0)
    samples = samples_of(function, inputs)
    standardised = samples_of(subject.game.generator, {"latent": inputs["latent"]})  # type: ignore[arg-type]
    # The game's unit: a column's deviation, times the root of the number of columns.
    assert torch.allclose(samples[:, 0], standardised[:, 0] * 20 * 3**0.5 + 100)
    assert (samples[:, 2] == 5).all(), "a constant column stays constant"
    extra = describe(subject, function, "0123abcd")["data"]["extra"]
    assert "shown" not in extra and extra["mean"] == [100.0, 0.0, 5.0]


def test_the_codes_of_infogan_are_inputs() -> None:
    subject = trained("infogan")
    function = generator_function(subject)
    assert [each.name for each in function.inputs] == ["latent", "category", "continuous"]
    inputs = function.draw(4, seed=0)
    assert inputs["category"].dtype == torch.int64 and inputs["continuous"].abs().max() <= 1
    game: Any = subject.game
    hot = nn.functional.one_hot(inputs["category"], game.information.categories).float()
    expected = game.generator(torch.cat([inputs["latent"], hot, inputs["continuous"]], dim=1), None)
    assert torch.equal(samples_of(function, inputs), expected)
    without = trained("infogan", set=("model.continuous=0",))
    assert [each.name for each in generator_function(without).inputs] == ["latent", "category"]


def test_uniform_latents_are_said_to_be_uniform_and_drawn_so() -> None:
    (latent,) = generator_function(trained("dcgan", set=("model.latent_distribution=uniform",))).inputs
    assert latent.plain()["distribution"] == "uniform on [-1, 1]"
    drawn = latent.draw(1000, torch.Generator().manual_seed(0))
    assert drawn.abs().max() <= 1 and drawn.min() < -0.9 and abs(float(drawn.mean())) < 0.05


def test_spectral_norms_become_plain_weights_that_compute_the_same() -> None:
    function = generator_function(trained("sngan", set=("model.spectral_norm=[generator, discriminator]",)))
    inputs = function.draw(3, seed=0)
    before, names = samples_of(function, inputs), [*function.state_dict()]
    plain = with_plain_weights(function)
    assert any("parametrizations" in name for name in names)
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert torch.allclose(samples_of(plain, inputs), before, atol=1e-6)


class Brighter(ImageGame):
    """A game that changes its samples after the generator, and forgot to say so."""

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        batch = super().generate(count, condition=condition, rng=rng)
        return Batch(data=batch["data"] + 0.25)


def test_a_game_that_generates_in_another_way_than_it_exports_is_refused() -> None:
    subject = trained("dcgan")
    subject.game.__class__ = Brighter
    with pytest.raises(UserError, match="Brighter draws its samples in another way than its `exportable"):
        generator_function(subject)


def test_a_game_without_a_function_of_latents_is_refused() -> None:
    subject = trained("dcgan")
    subject.game.exportable = lambda: None  # type: ignore[method-assign]
    with pytest.raises(UserError, match="has no generator that is a function of latents"):
        generator_function(subject)
    assert Game.exportable(subject.game) is None, "what a game of one's own says before it says anything"


# The formats


@pytest.mark.parametrize("count", [1, 3, 40])
def test_onnx_gives_the_samples_of_pytorch_for_every_batch_size_and_label(
    labelled: Trained, model: bytes, count: int
) -> None:
    function = generator_function(labelled)
    inputs = {**function.draw(count, seed=count), "label": torch.arange(count) % 3}
    assert torch.allclose(onnx_model.in_onnxruntime(model)(inputs), samples_of(function, inputs), atol=1e-4)


def test_onnx_names_its_inputs_and_says_what_they_are(model: bytes) -> None:
    import onnx

    read = onnx.load_from_string(model)
    onnx.checker.check_model(read)
    assert read.opset_import[0].version == onnx_model.OPSET
    shapes = {
        port.name: [size.dim_param or size.dim_value for size in port.type.tensor_type.shape.dim]
        for port in (*read.graph.input, *read.graph.output)
    }
    assert shapes == {"latent": ["batch", 6], "label": ["batch"], "samples": ["batch", 1, 8, 8]}
    said = {each.key: each.value for each in read.metadata_props}
    assert said["latent"] == "standard normal" and said["label"] == "one of: cat, dog, emu"
    assert json.loads(said["sparring"])["recipe"]["name"] == "cgan"


def test_the_default_networks_without_labels_go_through_onnx() -> None:
    subject = trained("default", set=("model.generator.patch=2",), spec=DataSpec((3, 9, 10), (), 60, {}))
    function = generator_function(subject)
    content, facts = onnx_model.to_onnx(
        function, describe(subject, function, "0123abcd"), "none", subject.domain, subject.spec
    )
    inputs = function.draw(5, seed=0)
    assert facts["difference"] < 1e-5
    assert torch.allclose(onnx_model.in_onnxruntime(content)(inputs), samples_of(function, inputs), atol=1e-4)


def test_a_torch_export_program_is_read_back_with_any_batch_size_and_its_description(
    run: Path, labelled: Trained, tmp_path: Path
) -> None:
    result = sparring.export(run, format="pt2", out=tmp_path)
    extra = {"sparring.json": ""}
    program = torch.export.load(tmp_path / "generator.pt2", extra_files=extra)
    assert not any("discriminator" in name for name in program.state_dict)
    assert json.loads(extra["sparring.json"])["step"] == 20
    function = generator_function(labelled)
    for count in (1, 33):
        inputs = function.draw(count, seed=count)
        assert torch.allclose(program.module()(**inputs), samples_of(function, inputs), atol=1e-6)
    assert result.facts["difference"] <= 1e-6


# Agreement


def test_a_model_that_computes_other_samples_is_refused_and_leaves_nothing(tmp_path: Path, translated: None) -> None:
    other = written(tmp_path / "other", trained("cgan", seed=1))
    with pytest.raises(UserError, match="the ONNX model does not compute the samples that PyTorch computes"):
        sparring.export(other)
    assert not (other / "export").exists()


class Doubling(Exportable):
    """Samples that are twice the latents, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(nn.Identity(), Noise("latent", 2))
        self.factor = factor

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return 2 * self.factor * latent


def test_agreement_is_measured_relative_to_large_samples_and_refuses_what_is_not_finite() -> None:
    form = agreement.eager(Doubling())
    assert agreement.disagreement(Doubling(), form) == 0
    assert agreement.disagreement(Doubling(1e6), lambda inputs: 1e6 * form(inputs) * (1 + 1e-5)) == pytest.approx(
        1e-5, rel=0.1
    )
    assert agreement.require_agreement(Doubling(), lambda inputs: form(inputs) + 9e-5, "it") < 1e-4
    for broken in (
        lambda inputs: form(inputs) + 1e-2,
        lambda inputs: form(inputs) * float("nan"),
        lambda inputs: form(inputs)[:, :1],
    ):
        with pytest.raises(UserError, match="so nothing was written"):
            agreement.require_agreement(Doubling(), broken, "it")


def test_a_diverged_generator_is_refused(tmp_path: Path) -> None:
    subject = trained("gan")
    next(iter(subject.game.generator.parameters())).data.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(UserError, match="the generator has diverged"):
        sparring.export(written(tmp_path / "nan", subject), format="safetensors")


# Fewer bits


def test_bf16_rounds_the_weights_and_nothing_else(labelled: Trained, model: bytes) -> None:
    function = generator_function(labelled)
    rounded = copy.deepcopy(function)
    smaller = to_bf16(model, function)
    inputs = function.draw(8, seed=3)
    exact, coarse = (onnx_model.in_onnxruntime(each)(inputs) for each in (model, smaller))
    for value in rounded.parameters():
        if value.ndim >= 2:
            value.data = value.data.bfloat16().float()
    assert 0 < (coarse - exact).abs().max() < 0.05
    # Not exactly: the translation folds a norm's scale into the weights before it, and the product is what is rounded.
    assert (coarse - samples_of(rounded, inputs)).abs().max() <= 2 * (coarse - exact).abs().max()
    import onnx

    types = [
        (each.data_type, len(each.dims))
        for each in onnx.load_from_string(smaller).graph.initializer
        if each.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16)
    ]
    assert all((kind == onnx.TensorProto.BFLOAT16) == (dims >= 2) for kind, dims in types)


@pytest.mark.parametrize("quantize", ["int8", "bf16"])
def test_quantizing_measures_what_it_loses(run: Path, tmp_path: Path, translated: None, quantize: str) -> None:
    result = sparring.export(run, quantize=quantize, out=tmp_path)
    loss = result.facts["quality_loss"]
    assert loss["features"] == "pixels" and loss["samples"] == 512
    assert loss["mean_absolute_difference"] > 0
    assert 0 <= loss["frechet_distance"] < loss["frechet_of_two_draws"]
    assert result.facts["bytes"] < result.facts["unquantized"]["bytes"]
    assert result.facts["milliseconds"].keys() == {"1", "16"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "MODEL_CARD.md", f"generator.{quantize}.onnx", f"generator.{quantize}.onnx.json",
    ]  # fmt: skip
    assert "Fréchet distance in pixels" in (tmp_path / "MODEL_CARD.md").read_text()


# What lies beside


def test_the_description_says_all_that_using_the_generator_needs(run: Path) -> None:
    said = json.loads((run / "export" / "generator.onnx.json").read_text())
    assert said["inputs"] == [
        {"name": "latent", "dtype": "float32", "shape": ["batch", 6], "distribution": "standard normal"},
        {"name": "label", "dtype": "int64", "shape": ["batch"], "names": list(CLASSES)},
    ]
    assert said["output"]["shape"] == ["batch", 1, 8, 8] and "[-1, 1]" in said["output"]["values"]
    assert (said["step"], said["file"], said["data"]["fingerprint"]) == (20, "generator.onnx", "0123abcd")
    assert said["measured"]["difference"] <= 1e-4


def test_the_card_holds_what_was_recorded_and_leaves_the_rest_to_its_author(run: Path) -> None:
    card = (run / "export" / "MODEL_CARD.md").read_text()
    for fact in ("`cgan`", "0123abcd", "| samples | 60 |", "step 20", "| seed | 0 |", "cat, dog, emu"):
        assert fact in card, fact
    assert "`sliced_wasserstein` was 0.125 at step 20" in card
    assert "| `fid` | 1.5 | [1, 2] | lower | pixels | 60 / 60 |" in card
    assert "at step 10 (this file is of step 20)" in card
    assert card.count("To be filled in by the author") == 2


def test_a_card_without_an_evaluation_claims_no_figures_of_one(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", trained("gan"))
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "figures.json").write_text("[not what was written")
    sparring.export(folder, format="safetensors")
    card = (folder / "export" / "MODEL_CARD.md").read_text()
    assert "`sliced_wasserstein` was 0.125" in card and "95 % interval" not in card


@pytest.mark.parametrize(
    ("recipe", "format"), [("cgan", "onnx"), ("infogan", "pt2"), ("cgan", "safetensors"), ("infogan", "safetensors")]
)
def test_the_snippet_of_the_card_runs_and_draws_sixteen_samples(
    recipe: str, format: str, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "onnx":
        folder = run / "export"
    else:
        folder = tmp_path
        sparring.export(written(tmp_path / "run", trained(recipe)), format=format, out=folder)
    snippet = re.search(r"```python\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.DOTALL)
    assert snippet is not None
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(snippet[1], names)
    assert tuple(names["samples"].shape) == (16, 1, 8, 8)
    assert np.isfinite(np.asarray(names["samples"])).all()


# The command


def test_the_command_prints_what_was_measured_and_one_object_as_json(run: Path, tmp_path: Path) -> None:
    words = ("export", run, "--format", "safetensors", "--out", tmp_path)
    shown = shell(*words)
    assert shown.code == 0 and "largest difference from PyTorch's samples" in shown.out
    said = shell(*words, "--json").json
    assert said["format"] == "safetensors" and said["step"] == 20 and said["difference"] == 0
    assert [Path(each).name for each in said["files"]] == [
        "generator.safetensors", "generator.safetensors.json", "MODEL_CARD.md",
    ]  # fmt: skip
    assert all(Path(each).stat().st_size > 0 for each in said["files"])


def test_the_command_prints_what_quantizing_lost(run: Path, tmp_path: Path, translated: None) -> None:
    shown = shell("export", run, "--quantize", "bf16", "--out", tmp_path)
    assert shown.code == 0, shown.err
    for part in (
        "KiB (unquantized",
        "onnxruntime, batch of 16",
        "mean absolute difference",
        "Fréchet distance in pixels",
    ):
        assert part in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--format onx", "unknown --format 'onx' (did you mean 'onnx'?)"),
        ("--quantize int9", "unknown --quantize 'int9' (did you mean 'int8'?)"),
        ("--format pt2 --quantize int8", "--quantize int8 is for ONNX models"),
        ("--checkpoint 7", "has no checkpoint '7'; there are best, last, 20"),
    ],
)
def test_misuse_is_one_line(run: Path, words: str, message: str) -> None:
    assert message in shell("export", run, *words.split()).error


def test_a_missing_library_names_the_extra(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the package 'onnxruntime'.*sparring\[export\]"):
        sparring.export(run, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_run_is_one_line(tmp_path: Path) -> None:
    assert "no such run folder" in shell("export", tmp_path / "nowhere").error


def test_foreign_code_waits_for_trust(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", trained("gan"))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("game: adversarial", "game: toygan:ToyGame"))
    assert "pass --trust" in shell("export", folder, "--format", "safetensors").error


def test_a_file_of_other_weights_is_no_generator(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(UserError, match="not a generator that `sparring export` wrote"):
        load_generator(tmp_path / "x.safetensors")
