"""Translations as the verbs see them: trained, resumed, measured on pairs that were held out, refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sparring
from shell import sparring as shell
from sparring.core.game import Batch, DataSpec
from sparring.domains import open_domain
from sparring.domains.domain import Domain
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.domains.translation.show import comparison, translations, visible
from sparring.errors import UserError
from sparring.imaging.show import to_uint8
from sparring.measuring.sides import Turned, from_dataset, from_translated
from sparring.metrics.meter import Meter
from sparring.metrics.structure import psnr, ssim
from sparring.options import validate
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints

torch.set_num_threads(1)

TINY = [
    "data.size=16", "data.load=18", "model.generator={name: unet, width: 4, depth: 3}",
    "model.discriminator={name: patch, width: 4, field: 16}", "train.batch_size=2", "train.sample_count=4",
    "train.checkpoint_every=2", "train.sample_every=2", "machine.compile=false", "machine.precision=32", "machine.channels_last=false",
    "machine.threads=1",
]  # fmt: skip


def write_pairs(root: Path, count: int, *, seed: int = 0, names: str = "{}") -> Path:
    """Blots, and the same blots in other colours."""
    random = np.random.default_rng(seed)
    for side in "AB":
        (root / side).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
        small.save(root / "A" / f"{names.format(number)}.png")
        Image.fromarray(255 - np.asarray(small)).save(root / "B" / f"{names.format(number)}.png")
    return root


def train(data: Path | None, out: Path, *sets: str, recipe: str = "pix2pix", steps: int = 4, **options: Any) -> Path:
    result = sparring.train(
        recipe,
        data=str(data) if data else None,
        out=out,
        steps=steps,
        set=[*TINY, *sets],
        device="cpu",
        quiet=True,
        **options,
    )
    return Path(str(result.run))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `run` and its data are: `pairs` to learn from, `held` that it has not seen."""
    root = tmp_path_factory.mktemp("translation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(root / "cache"))
        write_pairs(root / "pairs", 8)
        write_pairs(root / "held", 6, seed=1)
        train(
            root / "pairs", root / "run", f"data.held_out={root / 'held'}", "evaluate.metric=psnr", "evaluate.count=6"
        )
        yield root


@pytest.fixture
def domain() -> Domain:
    return open_domain("translation")


def test_a_sheet_has_a_column_for_inputs_outputs_and_targets(place: Path) -> None:
    with Image.open(place / "run" / "samples" / "step-00000004.png") as sheet:
        picture = np.asarray(sheet.convert("RGB")).astype(int)
    # Four rows of three columns, each cell 16 pixels grown by 8, gutters of 2 around, headings above.
    assert picture.shape[1] == 3 * 130 + 2 and picture.shape[0] > 4 * 130 + 2
    top = picture.shape[0] - 4 * 130
    source, target = picture[top : top + 128, 2:130], picture[top : top + 128, 262:390]
    assert np.abs(source + target - 255).max() <= 2  # targets are negatives; Lanczos rounds both


def test_sheets_show_held_out_data_and_the_same_rows_each_time(place: Path) -> None:
    sheets = [Image.open(file).convert("RGB") for file in sorted((place / "run" / "samples").glob("step-*.png"))]
    first, last = (np.asarray(sheet)[-260:, 2:130] for sheet in (sheets[0], sheets[-1]))
    assert np.array_equal(first, last)
    held = [
        np.asarray(Image.open(file).resize((16, 16), Image.Resampling.LANCZOS))
        for file in (place / "held" / "A").iterdir()
    ]
    cell = first[:128][::8, ::8]
    assert min(np.abs(cell.astype(int) - each).max() for each in held) <= 2


def test_figures_of_a_training_are_those_of_the_held_out_pairs(place: Path) -> None:
    trained = sparring.load(place / "run", checkpoint="last", device="cpu")
    data = trained.domain.open_reference(str(place / "held"), trained.recipe.data, trained.spec)
    made = trained.translate(data.batch(torch.arange(6), augment=False))
    expected = by_hand(made["data"], made["real"])[0]
    recorded = [line for line in (place / "run" / "metrics.jsonl").read_text().splitlines() if '"metric/psnr"' in line]
    assert json.loads(recorded[-1])["metric/psnr"] == pytest.approx(expected, abs=0.05)  # dropout is drawn anew


def by_hand(fake: Tensor, real: Tensor) -> tuple[float, float]:
    one, other = (to_uint8(each).float() / 255 for each in (fake, real))
    return float(psnr(one, other).mean()), float(ssim(one, other).mean())


def test_paired_figures_are_those_computed_by_hand(place: Path) -> None:
    found = sparring.evaluate(
        place / "run", data=str(place / "held"), features="pixels", checkpoint="last", metrics="psnr,ssim"
    )
    trained = sparring.load(place / "run", checkpoint="last", device="cpu")
    data = trained.domain.open_reference(str(place / "held"), trained.recipe.data, trained.spec)
    fake = next(from_translated(trained, data, seed=0).batches(6))
    real = next(from_dataset(data, seed=0).batches(6))
    expected = by_hand(fake["data"], real["data"])
    assert (found.figures["psnr"].value, found.figures["ssim"].value) == pytest.approx(expected, rel=1e-4)
    assert found.figures["psnr"].fake == 6 and found.data == str(place / "held")


def test_paired_figures_are_the_usual_ones(place: Path) -> None:
    found = sparring.evaluate(place / "run", data=str(place / "held"), features="pixels", checkpoint="last")
    assert {"psnr", "ssim", "ms_ssim", "fid"} <= found.figures.keys() and "cycle_error" not in found.figures


def test_a_side_gives_the_same_samples_when_it_is_asked_for_some_of_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparring.measuring.sides.PIXELS", 2 * 16 * 16)  # two images a pass
    trained = sparring.load(place / "run", checkpoint="last", device="cpu")
    data = trained.domain.open_reference(str(place / "held"), trained.recipe.data, trained.spec)
    side = from_translated(trained, data, seed=0)
    whole = torch.cat([batch["data"] for batch in side.batches(6)])
    assert torch.equal(side.at(torch.tensor([5, 0, 3]), 6)["data"], whole[[5, 0, 3]])


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(place: Path, tmp_path: Path) -> None:
    halfway = train(place / "pairs", tmp_path / "halfway", "data.augment.flip_horizontal=0.5", steps=2)
    sparring.resume(halfway, steps=4, quiet=True)
    whole = train(place / "pairs", tmp_path / "whole", "data.augment.flip_horizontal=0.5")
    one, other = (list_checkpoints(Run(run).checkpoints)[-1].tensors("game") for run in (halfway, whole))
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("recipe", "layout", "sets", "message"),
    [
        ("pix2pix", "sides", (), r"recipe 'pix2pix' learns from pairs, and the sides of the data have no equal names"),
        ("pix2pix", "single", (), r"recipe 'pix2pix' translates from one side to another, and the data has one side only"),
        ("pix2pix", None, (), r"a translation needs data of yours: --data FOLDER"),
        ("pix2pix", "pairs", ("evaluate.metric=cycle_error",), r"needs cycled, which the game's samples have not"),
        ("dcgan", "pairs", ("evaluate.metric=psnr",), r"evaluate\.metric=psnr compares pairs"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_the_data_is_one_line(
    place: Path, tmp_path: Path, recipe: str, layout: str | None, sets: tuple[str, ...], message: str
) -> None:
    ours = [f"data.layout={layout}"] if layout and recipe == "pix2pix" else []
    with pytest.raises(UserError, match=message) as raised:
        if recipe == "pix2pix":
            train(place / "pairs" if layout else None, tmp_path / "run", *ours, *sets)
        else:
            sparring.train(
                recipe,
                data=str(place / "pairs"),
                out=tmp_path / "run",
                steps=2,
                set=[*sets, "data.size=16"],
                quiet=True,
            )
    assert "\n" not in str(raised.value)


def test_joined_images_are_spoken_of_where_they_would_fit(tmp_path: Path) -> None:
    (tmp_path / "facades").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 16), (number, 0, 0)).save(tmp_path / "facades" / f"{number}.jpg")
    with pytest.raises(
        UserError, match=r"its images are twice as wide as high: if they hold both sides, say data\.layout=joined"
    ):
        train(tmp_path / "facades", tmp_path / "run")


def test_data_of_partial_pairs_say_how_to_take_them(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "pairs", 5)
    for number in range(4):
        (root / "B" / f"{number}.png").rename(root / "B" / f"b{number}.png")
    with pytest.raises(UserError, match=r"1 of their images have equal names: data\.layout=pairs takes these alone"):
        train(root, tmp_path / "run")


def test_what_a_translation_does_not_do_is_one_line(place: Path) -> None:
    for words, message in (
        (["generate", str(place / "run")], "`sparring translate` does that"),
        (["evaluate", str(place / "run"), "--direction", "b2a"], "--label means nothing here"),
        (
            ["evaluate", str(place / "run"), "--metrics", "cycle_error"],
            "cycle_error needs a game that goes there and back",
        ),
        (["project", str(place / "run"), str(place / "pairs" / "A" / "0.png")], ""),
    ):
        done = shell(*words)
        assert done.code == 2 and message in done.err and done.err.count("\n") <= 2, done.err


class There:
    """A data set of pictures in memory, as translations have them."""

    def __init__(self, source: Tensor, data: Tensor, counts: tuple[int, int]) -> None:
        extra = {
            "input": {"kind": "image", "channels": 3},
            "counts": dict(zip(("input", "output"), counts, strict=True)),
        }
        self.spec = DataSpec(tuple(data.shape[1:]), (), len(data), extra)
        self.fingerprint, self.broken, self.source, self.data = "x", [], source, data

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device) -> There:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(source=self.source[indices], data=self.data[indices])


def test_the_way_back_is_measured_against_the_inputs() -> None:
    data = There(torch.zeros(4, 3, 2, 2), torch.ones(4, 1, 2, 2), (4, 2))
    turned = Turned(data)
    batch = turned.batch(torch.arange(2))
    assert torch.equal(batch["data"], torch.zeros(2, 3, 2, 2)) and torch.equal(batch["source"], torch.ones(2, 1, 2, 2))
    assert turned.spec.shape == (3, 2, 2) and turned.fingerprint != data.fingerprint
    assert from_dataset(turned, seed=0).count == 4


def test_each_output_of_unpaired_data_counts_once() -> None:
    data = There(torch.zeros(7, 3, 1, 1), torch.arange(7.0).view(7, 1, 1, 1) % 3, (7, 3))
    side = from_dataset(data, seed=0)
    (batch,) = side.batches(side.count or 0)
    assert sorted(batch["data"].flatten().tolist()) == [0, 1, 2]


def test_the_cycle_error_is_the_mean_difference_in_shares_of_the_range(domain: Domain) -> None:
    meter = Meter(
        open_domain("translation").open_features("pixels", None), domain.measures, Batch(data=torch.zeros(3, 1, 2, 2))
    )  # type: ignore[arg-type]
    fake = Batch(
        data=torch.zeros(3, 1, 2, 2), source=torch.zeros(3, 3, 2, 2) - 1, cycled=torch.full((3, 3, 2, 2), -0.6)
    )
    assert meter.values(fake, "cycle_error")["cycle_error"].number == pytest.approx(51 / 255)
    assert "cycle_error" in meter.able(meter.describe(fake))
    assert "cycle_error" not in meter.able(meter.describe(Batch(data=fake["data"])))


def test_sheets_of_several_classes_have_a_column_for_each() -> None:
    inputs = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    samples = {
        "input": inputs.repeat(2, 1, 1, 1),
        "data": torch.zeros(4, 3, 128, 128),
        "label": torch.tensor([0, 0, 1, 1]),
    }
    assert translations(samples, ("a", "b")).size[0] == 3 * 130 + 2
    other = {**samples, "input": torch.randint(0, 256, (4, 3, 128, 128), dtype=torch.uint8)}
    assert translations(other, ("a2b", "b2a")).size[0] > 2 * 130 + 2  # names beside the rows


def test_small_inputs_are_enlarged_to_their_outputs() -> None:
    small, large = torch.zeros(1, 1, 64, 64) - 1, torch.ones(1, 3, 256, 256)
    picture = np.asarray(comparison({"input": small, "output": large}))
    assert picture.shape[1] == 2 * 258 + 2 and picture[100, 100].tolist() == [0, 0, 0]
    assert picture[100, 400].tolist() == [255, 255, 255]


def test_label_maps_show_the_colours_of_their_classes_and_edges_in_white() -> None:
    maps = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]])
    shown = visible(maps[:, :2], {"palette": [[10, 20, 30], [200, 100, 0]]})
    assert shown[0, :, 0].T.tolist() == [[10, 20, 30], [200, 100, 0], [0, 0, 0]]
    edged = torch.cat([maps[:, :2], torch.tensor([[[[0.0, 1.0, 0.0]]]])], dim=1)
    assert visible(edged, {"palette": [[10, 20, 30], [200, 100, 0]]})[0, :, 0, 1].tolist() == [255, 255, 255]


def test_classes_of_held_out_folders_have_the_numbers_of_the_training_data(tmp_path: Path) -> None:
    def folders(root: Path, **counts: int) -> dict[str, Any]:
        for name, count in counts.items():
            (root / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (4, 4), (number, 0, 0)).save(root / name / f"{number}.png")
        return validate(TranslationOptions, {"source": str(root), "layout": "single"}, where="data")

    known = open_translation(TranslationOptions(**folders(tmp_path / "a", ant=1, bee=1, cow=1)))
    held = open_translation(TranslationOptions(**folders(tmp_path / "b", bee=1, cow=1)), known=known.spec.extra)
    assert held.spec.classes == known.spec.classes and held.batch(torch.arange(2))["label"].tolist() == [1, 2]
    with pytest.raises(UserError, match="holds the class 'yak', which the training data has not"):
        open_translation(TranslationOptions(**folders(tmp_path / "c", bee=1, yak=1)), known=known.spec.extra)


@pytest.fixture(scope="module")
def both_ways(place: Path) -> Path:
    """A game of two directions, on sides of 8 and 5 images."""
    root = place / "unpaired"
    write_pairs(root, 8, names="x{}")
    for number in range(8):
        file = root / "B" / f"x{number}.png"
        file.unlink() if number > 4 else file.rename(root / "B" / f"y{number}.png")
    sets = [
        "model.generator={name: unet, width: 4, depth: 3, noise: false}",
        "evaluate.metric=cycle_error",
        "evaluate.count=4",
    ]
    return train(root, place / "both", *sets, recipe="cyclegan", steps=2)


def test_both_directions_can_be_measured(both_ways: Path) -> None:
    options: dict[str, Any] = {"features": "pixels", "metrics": "kid,cycle_error", "checkpoint": "last"}
    there = sparring.evaluate(both_ways, **options)
    back = sparring.evaluate(both_ways, label="b2a", **options)
    assert there.figures["kid"].fake == there.figures["kid"].real == 5  # as many as the smaller side has
    trained = sparring.load(both_ways, checkpoint="last", device="cpu")
    data = trained.domain.open_reference(str(trained.recipe.data["source"]), trained.recipe.data, trained.spec)
    inputs = torch.cat(
        [batch["source"] for batch in from_translated(trained, data, seed=0, label="b2a", turned=True).batches(5)]
    )
    outputs = data.batch(torch.arange(5), augment=False)["data"]
    assert sorted(inputs.mean(dim=(1, 2, 3)).tolist()) == pytest.approx(sorted(outputs.mean(dim=(1, 2, 3)).tolist()))
    assert there.figures["kid"].value != back.figures["kid"].value
    assert there.figures["cycle_error"].value != back.figures["cycle_error"].value
    assert there.figures["cycle_error"].real == 0


def test_the_way_there_and_back_is_recorded_during_a_training_and_shown(both_ways: Path) -> None:
    assert '"metric/cycle_error"' in (both_ways / "metrics.jsonl").read_text()
    with Image.open(sorted((both_ways / "samples").glob("*.png"))[-1]) as sheet:
        # Two rows a direction, named at their left: input, output, and back.
        assert sheet.width > 3 * 130 + 2 and sheet.height > 4 * 130


def test_partners_that_nobody_knows_are_said(both_ways: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="psnr needs samples and data in files of equal names, or a run that makes images"
    ):
        sparring.evaluate(both_ways, features="pixels", metrics="psnr", checkpoint="last")
    with pytest.raises(UserError, match=r"evaluate\.metric=psnr compares pairs, and nothing of the data is known"):
        train(
            both_ways.parent / "unpaired",
            tmp_path / "run",
            "evaluate.metric=psnr",
            "model.generator.width=4",
            recipe="cyclegan",
        )
    with pytest.raises(UserError, match="b2b"):
        sparring.evaluate(both_ways, features="pixels", label="b2b", checkpoint="last")


def test_a_class_is_measured_against_its_own_images(place: Path) -> None:
    root = place / "zoo"
    for name, count in (("ant", 6), ("bee", 8)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            tone = 20 * number + (100 if name == "bee" else 0)
            Image.new("RGB", (20, 20), (tone, tone, 0)).save(root / name / f"{number}.png")
    sets = ["model.generator={name: star, width: 4, blocks: 1}", "model.discriminator={name: star, width: 4}"]
    run = train(root, place / "star", *sets, recipe="stargan", steps=2)
    found = sparring.evaluate(run, features="pixels", metrics="fid", label="ant", checkpoint="last")
    assert (found.figures["fid"].real, found.figures["fid"].fake) == (6, 6) and found.figures["fid"].facts[
        "label"
    ] == "ant"
    # The others become ants, and those that there are are what they are measured against.
    more = sparring.evaluate(run, features="pixels", metrics="fid", label="bee", checkpoint="last", count=8)
    assert (more.figures["fid"].real, more.figures["fid"].fake) == (8, 6)
