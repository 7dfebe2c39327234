"""The verbs of exploring, by the shell: what they write, and misuse in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparring
from shell import TINY
from shell import sparring as shell
from sparring.errors import UserError
from sparring.exploring.stored import read_codes
from sparring.trained import load

torch.set_num_threads(1)
CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A generator without classes and one with, barely trained on digits."""
    folder = tmp_path_factory.mktemp("runs")
    # As `normal` begins, all samples of so small a network would be one grey.
    changes = [*(f"{key}={value}" for key, value in TINY.items()), "model.initialize.name=he", "machine.threads=1"]
    for recipe in ("dcgan", "cgan"):
        sparring.train(recipe, data="digits", out=folder / recipe, steps=2, set=changes, device="cpu", quiet=True)
    return {recipe: folder / recipe for recipe in ("dcgan", "cgan")}


def done(*words: object) -> dict[str, object]:
    ended = shell(*words, *CPU, "--json")
    assert ended.code == 0, ended.err
    return ended.json


@pytest.mark.parametrize(
    ("recipe", "words", "file"),
    [
        ("dcgan", "--interpolate --rows 2 --columns 3 --truncation 0.5", "interpolation.png"),
        ("cgan", "--between 3,8,1 --rows 2", "interpolation.png"),
        ("cgan", "--per-class 3", "classes.png"),
    ],
)
def test_sheets_lie_in_the_run_folder_unless_another_place_is_named(
    runs: dict[str, Path], tmp_path: Path, recipe: str, words: str, file: str
) -> None:
    assert done("generate", runs[recipe], *words.split())["files"] == [str(runs[recipe] / file)]
    done("generate", runs[recipe], *words.split(), "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == (runs[recipe] / file).read_bytes()


def test_truncation_draws_the_same_samples_nearer_to_the_middle(runs: dict[str, Path], tmp_path: Path) -> None:
    trained = load(runs["dcgan"], device="cpu")
    whole, less, none = (next(trained.generate(40, truncation=psi))["data"] for psi in (1.0, 0.5, 0.0))
    assert torch.equal(none[0], none[1])
    assert (less - none).square().mean() < 0.7 * (whole - none).square().mean()
    done("generate", runs["dcgan"], "--truncation", 0.5, "--count", 40, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        wanted = ((less + 1) * 127.5).round().to(torch.uint8)[:, 0].numpy()
        assert np.abs(arrays["images"].astype(int)[..., 0] - wanted).max() <= 1


def test_codes_render_to_the_samples_of_the_same_seed(runs: dict[str, Path]) -> None:
    trained = load(runs["cgan"], device="cpu")
    codes = trained.codes(300, seed=5)
    drawn = list(trained.generate(300, seed=5))
    made = trained.render(codes)
    torch.testing.assert_close(made["data"], torch.cat([batch["data"] for batch in drawn]))
    assert torch.equal(made["label"], torch.cat([batch["label"] for batch in drawn]))


def test_directions_are_shown_kept_and_edited_along(runs: dict[str, Path], tmp_path: Path) -> None:
    found = done("directions", runs["dcgan"], "--count", 3, "--reach", 2)
    assert [row["name"] for row in found["directions"]] == ["pca-1", "pca-2", "pca-3"]  # type: ignore[index,attr-defined]
    assert all(Path(file).is_file() for file in found["files"])  # type: ignore[attr-defined]
    for name, edits in (("a", ["--edit", "pca-2:1.5"]), ("b", ["--edit", "pca-2:1", "--edit", "pca-2:0.5"]), ("c", [])):
        done("generate", runs["dcgan"], *edits, "--count", 5, "--out", tmp_path / f"{name}.npz")
    once, twice, never = (np.load(tmp_path / f"{name}.npz")["images"].astype(int) for name in "abc")
    assert np.abs(once - twice).max() <= 1 < np.abs(once - never).max()


def test_a_projected_image_can_be_drawn_again_and_edited(runs: dict[str, Path], tmp_path: Path) -> None:
    for folder, tone in (("one", 60), ("two", 200)):
        (tmp_path / folder).mkdir()
        Image.new("L", (10, 8), tone).save(tmp_path / folder / "photo.png")
    out = tmp_path / "found"
    photos = [tmp_path / "one" / "photo.png", tmp_path / "two" / "photo.png"]
    result = done("project", runs["cgan"], *photos, "--steps", 3, "--restarts", 2, "--label", "7", "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "photo-projected.png", "photo-2-projected.png", "sheet.png", "codes.npz", "projection.json",
    }  # fmt: skip
    figures = json.loads((out / "projection.json").read_text())["found"][str(photos[0])]
    assert {"ssim", "psnr", "distance", "steps", "restarts", "seed"} <= figures.keys()
    assert "8×10 pixels" in result["notes"][0] and "made 8×8 of 1" in result["notes"][0]  # type: ignore[index]
    done("generate", runs["cgan"], "--codes", out / "codes.npz", "--out", tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again:
        assert again["labels"].tolist() == [7, 7]
    shown = shell("project", runs["cgan"], photos[0], "--steps", 1, "--out", out, *CPU)
    assert "ssim" in shown.out and "descended: 0.84 (1 - SSIM over scales)" in shown.out


def test_codes_of_another_generator_or_checkpoint_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    done("project", runs["dcgan"], tmp_path / "a.png", "--steps", 1, "--out", tmp_path)
    file = tmp_path / "codes.npz"
    with pytest.raises(UserError, match="the codes are another one's"):
        read_codes(file, load(runs["cgan"], device="cpu"))
    trained = load(runs["dcgan"], device="cpu")
    trained.step = 1
    with pytest.raises(UserError, match="belong to step 2, and this is step 1"):
        read_codes(file, trained)
    np.savez(tmp_path / "evil.npz", code=np.array([{}], dtype=object), step=np.array(2))
    with pytest.raises(UserError, match="cannot be read as codes"):
        read_codes(tmp_path / "evil.npz", trained)


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("dcgan", "--per-class 2", "draws samples without labels"),
        ("dcgan", "--between 1,2", "draws samples without labels"),
        ("dcgan", "--mix coarse", "no styles to mix"),
        ("dcgan", "--truncation 1.2", "a truncation of 1.2 cannot be"),
        ("dcgan", "--truncation-layers 2", "its generator has no styles"),
        ("dcgan", "--interpolate --walk a.gif", "--interpolate and --walk: ask for one of them at a time"),
        ("dcgan", "--interpolate --edit pca-1:2", "--edit is for samples, not for --interpolate"),
        ("dcgan", "--interpolate --out a.jpg", "a sheet is one .png"),
        ("dcgan", "--edit pca-1", "write DIRECTION:STRENGTH"),
        ("dcgan", "--edit pca-1:far", "write DIRECTION:STRENGTH"),
        ("dcgan", "--edit smile:2", "no direction 'smile'"),
        ("dcgan", "--walk a.avi", "a film ends in .gif"),
        ("dcgan", "--walk a.gif --out b.gif", "--walk FILE names the film itself"),
        ("dcgan", "--codes nowhere.npz", "no such file"),
        ("cgan", "--between 1", "at least two classes"),
        ("cgan", "--between 1,ten", "unknown label 'ten'"),
        ("cgan", "--per-class 2 --label 3", "leave --label out"),
    ],
)
def test_misuse_is_one_line(runs: dict[str, Path], recipe: str, words: str, message: str) -> None:
    assert message in shell("generate", runs[recipe], *words.split(), *CPU).error


def test_directions_by_labels_need_labels_that_the_latent_decides(runs: dict[str, Path]) -> None:
    assert "use --label, or --between" in shell("directions", runs["cgan"], "--method", "labels", *CPU).error
    assert "use --method pca" in shell("directions", runs["dcgan"], "--method", "sefa", *CPU).error
    assert "did you mean 'sefa'" in shell("directions", runs["dcgan"], "--method", "sefar", *CPU).error


def test_a_game_without_codes_draws_but_cannot_be_steered(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        "game: toygan:ToyGame\ndata: {source: digits, limit: 40}\ntrain: {steps: 1, batch_size: 8, sample_count: 4}\n"
    )
    sparring.train(tmp_path / "toy.yaml", out=tmp_path / "run", device="cpu", quiet=True)
    trained = load(tmp_path / "run", device="cpu", trust=True)
    assert next(trained.generate(3))["data"].shape == (3, 1, 8, 8)
    for steer in (lambda: trained.codes(3), lambda: trained.generate(3, truncation=0.5)):
        with pytest.raises(UserError, match=r"ToyGame draws its samples without codes"):
            steer()
