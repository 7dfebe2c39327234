"""Evaluate: the same contract for runs, folders and files, and figures that say what they stand on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import sparring
from shell import TINY
from shell import sparring as shell
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.measuring import sides
from sparring.metrics.frechet import frechet_distance
from sparring.metrics.prdc import prdc

torch.set_num_threads(1)

DIGITS = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
LABELS = load_digits().target


def write_folder(folder: Path, images: np.ndarray, names: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        path = folder / (names[index] if names else f"{index:04}.png")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`cgan` on some digits, for four steps."""
    root = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(root / "cache"))
        keys = [f"{key}={value}" for key, value in {**TINY, "data.limit": 200}.items()]
        sparring.train("cgan", out=root / "run", steps=4, set=keys, device="cpu", quiet=True)
    yield root / "run"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "real", DIGITS[:120])


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "fake", np.roll(DIGITS[120:240], 1, axis=2))


def pixels(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images / 255.0).flatten(1)


def test_pixel_figures_of_two_folders_are_those_of_the_flattened_pixels(real: Path, fake: Path) -> None:
    found = sparring.evaluate(fake, data=str(real), features="pixels", metrics="fid,precision,recall")
    left, right = pixels(DIGITS[:120]), pixels(np.roll(DIGITS[120:240], 1, axis=2))
    assert found.figures["fid"].value == pytest.approx(frechet_distance(left, right), rel=1e-5)
    expected = prdc(left, right, k=5)
    assert found.figures["precision"].value == pytest.approx(expected.precision)
    assert found.figures["recall"].value == pytest.approx(expected.recall)
    figure = found.figures["fid"]
    assert (figure.features, figure.real, figure.fake) == ("pixels", 120, 120)
    assert figure.interval is not None and figure.interval[0] < figure.value < figure.interval[1]
    assert figure.facts["reference"] == f"all 120 of {real}" and figure.facts["resizer"] == "none"


def test_copies_of_the_data_are_found_out(real: Path, tmp_path: Path) -> None:
    copies = write_folder(tmp_path / "copies", DIGITS[:120])
    found = sparring.evaluate(copies, data=str(real), features="pixels", out=tmp_path / "out")
    assert found.figures["fid"].value == pytest.approx(0, abs=1e-6)
    assert found.figures["precision"].value == found.figures["recall"].value == 1
    assert found.figures["authenticity"].value == 0 and found.figures["copies"].value == 1
    with Image.open(tmp_path / "out" / "suspects.png") as picture:
        sheet = np.asarray(picture.convert("L"))
    assert str(tmp_path / "out" / "suspects.png") in found.files
    # Eight rows of an image and its original: the two halves beside the captions are one picture.
    half = (sheet.shape[1] - 2) // 2
    right = sheet[:, -2 - 48 : -2]
    assert any(np.array_equal(right, sheet[:, left : left + 48]) for left in range(half))


def test_a_run_is_measured_against_what_it_was_trained_on(run: Path) -> None:
    found = sparring.evaluate(run, features="pixels", count=100)
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain["checkpoint"] == 4 and plain["features"] == "pixels"
    fid = plain["metrics"]["fid"]
    assert fid["value"] > 0 and fid["interval"][0] < fid["value"] < fid["interval"][1]
    assert (fid["features"], fid["real"], fid["fake"], fid["seed"]) == ("pixels", 100, 100, 0)
    assert fid["reference"] == "100 of 200, drawn with seed 0, of digits"
    assert json.loads((run / "evaluation" / "figures.json").read_text()) == plain
    assert (run / "evaluation" / "suspects.png").exists()


def test_the_same_evaluation_gives_the_same_figures_and_another_seed_others(run: Path) -> None:
    first, again, other = (
        sparring.evaluate(run, features="pixels", metrics="fid", count=100, seed=seed).figures["fid"]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first.value != other.value


def test_descriptions_of_real_samples_are_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    first = sparring.evaluate(run, features="pixels", metrics="fid", count=100)
    (kept,) = (tmp_path / "cache" / "described").iterdir()
    monkeypatch.setattr(sides, "write_stored", lambda file, samples: pytest.fail("described again"))
    assert sparring.evaluate(run, features="pixels", metrics="fid", count=100).figures == first.figures
    monkeypatch.undo()
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    kept.write_bytes(b"damaged")
    assert sparring.evaluate(run, features="pixels", metrics="fid", count=100).figures == first.figures
    # Fewer samples are another description.
    sparring.evaluate(run, features="pixels", metrics="fid", count=50)
    assert len(list((tmp_path / "cache" / "described").iterdir())) == 2


def test_a_small_budget_means_fewer_samples_and_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "all.npz", images=DIGITS)
    monkeypatch.setattr("sparring.measuring.evaluation.pace", lambda side, features: 0.01)
    monkeypatch.setattr("sparring.measuring.evaluation.COUNT", 1000)
    found = sparring.evaluate(run, data=str(tmp_path / "all.npz"), features="pixels", metrics="fid", budget=0.2)
    assert found.figures["fid"].fake == found.figures["fid"].real == 256  # 12 s, half of them for sampling: 300 of each
    (note,) = found.notes
    assert note.startswith("256 samples of each side instead of 1,000, to stay within 0.2 minutes")


def test_figures_that_the_budget_has_no_time_for_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.measuring.evaluation import _Clock

    monkeypatch.setattr(_Clock, "left", property(lambda self: 100.0 if self.spent < 0 else 0.0))
    found = sparring.evaluate(run, features="pixels", metrics="fid,kid", count=20)
    assert list(found.figures) == ["fid"] and found.figures["fid"].interval is None
    assert found.notes[-1] == "the time budget of 10 minutes was over before: kid"


def test_pairs_are_files_of_equal_names(tmp_path: Path) -> None:
    names = [f"{index:03}.png" for index in range(30)]
    clean = np.full((30, 16, 16), 100, dtype=np.uint8)
    real = write_folder(tmp_path / "a", clean, names)
    fake = write_folder(tmp_path / "b", (clean + 10)[:20], names[:20])
    found = sparring.evaluate(fake, data=str(real), features="pixels", metrics="psnr")
    assert found.figures["psnr"].value == pytest.approx(20 * np.log10(255 / 10), rel=1e-4)
    assert found.figures["psnr"].fake == 20
    with pytest.raises(UserError, match=r"LPIPS .* needs pretrained weights"):
        sparring.evaluate(fake, data=str(real), features="pixels", metrics="lpips")
    strange = write_folder(tmp_path / "c", clean[:5], [f"x{index}.png" for index in range(5)])
    with pytest.raises(UserError, match="files of equal names"):
        sparring.evaluate(strange, data=str(real), features="pixels", metrics="psnr")


def test_the_data_follows_the_samples_in_size_and_channels(tmp_path: Path) -> None:
    fakes = write_folder(tmp_path / "fake", np.repeat(DIGITS[:40, :, :, None], 3, axis=3))
    large = DIGITS[40:90].repeat(2, axis=1).repeat(2, axis=2)
    real = write_folder(tmp_path / "real", large)
    found = sparring.evaluate(fakes, data=str(real), features="pixels", metrics="fid")
    assert (found.figures["fid"].real, found.figures["fid"].fake) == (40, 40)
    with Image.open(next(fakes.iterdir())) as one:
        one.resize((9, 9)).save(fakes / "other.png")
    with pytest.raises(UserError, match=r"different sizes .*--size 64"):
        sparring.evaluate(fakes, data=str(real), features="pixels", metrics="fid")
    assert (
        sparring.evaluate(fakes, data=str(real), features="pixels", metrics="fid", size=(8, 8)).figures["fid"].fake
        == 41
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metrics": "fdi"}, r"unknown metric 'fdi' \(did you mean 'fid'\?\)"),
        ({"features": "pixel"}, r"unknown features 'pixel' \(did you mean 'pixels'\?\)"),
        ({"count": 1}, "fewer than 2 samples"),
        ({"budget": 0}, "give some minutes"),
        ({"metrics": "conditional_accuracy"}, "conditional_accuracy needs features that were learnt"),
        ({"metrics": "psnr"}, "files of equal names"),
        ({"checkpoint": 3}, "has no checkpoint 3"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(run: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        sparring.evaluate(run, **{"features": "pixels", **keys})
    assert "\n" not in str(raised.value)


def test_a_folder_needs_data_to_be_compared_with(real: Path) -> None:
    with pytest.raises(UserError, match=r"is no run.*give --data SOURCE"):
        sparring.evaluate(real)


def test_samples_that_are_not_finite_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.core.adversarial import AdversarialGame

    monkeypatch.setattr(
        AdversarialGame, "decode", lambda self, code, label: torch.full((len(code), 1, 8, 8), torch.nan)
    )
    with pytest.raises(UserError, match="NaN or infinite"):
        sparring.evaluate(run, features="pixels", metrics="fid", count=20, out=tmp_path)


def test_the_shell_prints_a_table_or_one_json_object(run: Path, tmp_path: Path) -> None:
    words = ("evaluate", run, "--features", "pixels", "--count", "60", "--metrics", "fid,recall", "--out", tmp_path)
    ended = shell(*words, "--json")
    assert list(ended.json["metrics"]) == ["fid", "recall"]
    text = shell(*words).out
    assert "fid" in text and "95 % interval" in text and "reference: 60 of 200" in text
    assert shell("evaluate", tmp_path / "nothing", "--data", "digits").error


def test_labels_are_matched_by_the_names_of_their_classes(tmp_path: Path) -> None:
    swapped = [f"{'ab'[label]}/{index}.png" for index, label in enumerate(LABELS[LABELS < 2])]
    named = write_folder(tmp_path / "named", DIGITS[LABELS < 2], swapped)
    more = write_folder(tmp_path / "more", DIGITS[LABELS < 3], [f"{'zab'[label]}/{index}.png" for index, label in enumerate(LABELS[LABELS < 3])])  # fmt: skip
    images = open_domain("image")
    fewer, all_three = (images.open_data({"source": str(folder)}) for folder in (named, more))
    side = sides.from_dataset(fewer, seed=0, classes=all_three.spec.classes)
    batch = next(side.batches(20))
    own = fewer.batch(torch.randperm(len(fewer), generator=torch.Generator().manual_seed(0))[:20], augment=False)
    assert [all_three.spec.classes[number] for number in batch["label"]] == [
        fewer.spec.classes[n] for n in own["label"]
    ]
    # Names that the data does not know tell nothing.
    assert "label" not in next(sides.from_dataset(all_three, seed=0, classes=fewer.spec.classes).batches(20))


def test_samples_of_a_run_can_be_drawn_again_by_number(run: Path) -> None:
    trained = sparring.load(run)
    side = sides.from_trained(trained, seed=3, classes=trained.spec.classes)
    drawn = torch.cat([batch["data"] for batch in side.batches(600)])
    wanted = torch.tensor([599, 0, 257])
    assert torch.equal(side.at(wanted, 600)["data"], drawn[wanted])


def test_a_run_on_another_machine_is_measured_on_data_in_its_form(run: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", DIGITS[:60].repeat(3, axis=1).repeat(3, axis=2))
    copied = Path(shutil.copytree(run, tmp_path / "copy"))
    found = sparring.evaluate(copied, data=str(other), features="pixels", metrics="fid")
    assert found.figures["fid"].real == 60
