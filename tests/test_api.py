"""The verbs in Python: what a run leaves behind, what comes out of it, and how it goes on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sparring
from shell import TINY
from sparring.api import TrainResult, find_checkpoint
from sparring.errors import UserError
from sparring.run import Run
from sparring.training.checkpoint import Checkpoint, Damaged, list_checkpoints

KEYS = {**TINY, "train.ema.half_life": 100, "train.checkpoint_every": 2, "train.log_every": 1}


def train(recipe: Any, out: Path, **keys: Any) -> TrainResult:
    assignments = [f"{key}={value}" for key, value in {**KEYS, "train.steps": 4, **keys}.items()]
    return sparring.train(recipe, out=out, set=assignments, device="cpu", quiet=True)


def last(run: Path) -> Checkpoint:
    return list_checkpoints(run / "checkpoints")[-1]


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def read_images(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of `cgan` on some of the digits: four steps, checkpoints at 0, 2 and 4, averaged weights, a metric."""
    root = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(root / "cache"))
        train("cgan", root / "run", **{"evaluate.metric": "sliced_wasserstein", "evaluate.count": 20})
    yield root / "run"


@pytest.fixture
def run(digits: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(digits, tmp_path / "run"))


def test_a_run_folder_holds_everything_that_was_promised(digits: Path) -> None:
    assert {path.name for path in digits.iterdir()} == {
        "recipe.yaml", "data.json", "metrics.jsonl", "checkpoints", "samples", "events", "report.html", "curves.png",
    }  # fmt: skip
    assert [each.step for each in list_checkpoints(digits / "checkpoints")] == [0, 2, 4]
    assert [path.name for path in sorted((digits / "samples").iterdir())] == ["step-00000000.png", "step-00000004.png"]
    assert [line["step"] for line in Run(digits).read_metrics()] == [1, 2, 3, 4]
    assert list((digits / "events").iterdir())


def test_the_recipe_in_the_run_folder_reproduces_the_run(digits: Path, tmp_path: Path) -> None:
    again = sparring.train(digits / "recipe.yaml", out=tmp_path / "again", device="cpu", quiet=True)
    assert again.steps == 4
    assert (tmp_path / "again" / "recipe.yaml").read_bytes() == (digits / "recipe.yaml").read_bytes()
    for name in ("weights", "game", "average", "optimizers", "random-0000"):
        files = [last(folder).folder / f"{name}.safetensors" for folder in (digits, tmp_path / "again")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_another_seed_gives_another_run(digits: Path, tmp_path: Path) -> None:
    sparring.train(digits / "recipe.yaml", out=tmp_path / "other", seed=1, device="cpu", quiet=True)
    assert last(digits).folder.joinpath("weights.safetensors").read_bytes() != (
        last(tmp_path / "other").folder.joinpath("weights.safetensors").read_bytes()
    )


def test_quiet_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train("gan", tmp_path / "run", **{"train.steps": 1})
    assert capfd.readouterr() == ("", "")


# Generating


def test_the_same_seed_draws_the_same_samples_and_another_seed_others(digits: Path, tmp_path: Path) -> None:
    drawn = [
        read_images(sparring.generate(digits, count=5, out=tmp_path / name, seed=seed))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_generating_leaves_the_callers_random_numbers_alone(digits: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    list(sparring.load(digits).generate(3))
    torch.manual_seed(0)
    first = next(sparring.load(digits).generate(3, seed=9))["data"]
    torch.manual_seed(1)
    assert torch.equal(first, next(sparring.load(digits).generate(3, seed=9))["data"])
    torch.set_rng_state(before)


def test_png_writes_a_file_a_sample(digits: Path, tmp_path: Path) -> None:
    paths = sparring.generate(digits, count=300, out=tmp_path / "many")
    assert len(paths) == len(set(paths)) == 300
    assert sorted((tmp_path / "many").iterdir()) == sorted(paths)
    images = read_images(paths)
    assert images.shape == (300, 8, 8) and images.dtype == np.uint8
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 300


def test_npz_holds_the_same_images_and_their_labels(digits: Path, tmp_path: Path) -> None:
    (file,) = sparring.generate(digits, count=7, out=tmp_path / "some.npz")
    with np.load(file, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.shape == (7, 8, 8, 1) and images.dtype == np.uint8
    assert labels.shape == (7,) and set(labels) <= set(range(10))
    paths = sparring.generate(digits, count=7, out=tmp_path / "folder")
    assert np.array_equal(images[..., 0], read_images(paths))


def test_a_png_path_is_one_sheet_and_the_run_folder_is_the_default(digits: Path, run: Path, tmp_path: Path) -> None:
    assert sparring.generate(digits, count=4, out=tmp_path / "sheet.png") == [tmp_path / "sheet.png"]
    assert min(Image.open(tmp_path / "sheet.png").size) > 16
    assert sparring.generate(run, count=2) == [run / "generated" / f"{index:06d}.png" for index in range(2)]
    assert sparring.generate(run, count=2, format="sheet") == [run / "generated.png"]
    assert sparring.generate(run, count=2, format="npz") == [run / "generated.npz"]


def test_a_label_draws_that_class_alone(digits: Path, tmp_path: Path) -> None:
    drawn = {}
    for label in ("3", 7):
        (file,) = sparring.generate(digits, count=6, out=tmp_path / f"{label}.npz", label=label)
        with np.load(file) as arrays:
            assert set(arrays["labels"]) == {int(label)}
            drawn[label] = arrays["images"]
    assert not np.array_equal(drawn["3"], drawn[7])


def test_best_is_the_checkpoint_that_was_measured_best(run: Path) -> None:
    file = last(run).folder / "state.json"
    state = json.loads(file.read_text())
    assert state["state"]["best"]["step"] in (2, 4)
    state["state"]["best"]["step"] = 2
    file.write_text(json.dumps(state))
    best = sparring.load(run).game.generator.state_dict()
    assert_same(best, sparring.load(run, checkpoint=2).game.generator.state_dict())
    assert not torch.equal(best["body.0.weight"], sparring.load(run, checkpoint="last").game.generator.body[0].weight)


def test_without_a_measured_best_it_is_the_last(tmp_path: Path) -> None:
    train("gan", tmp_path / "run", **{"train.steps": 2})
    assert find_checkpoint(Run(tmp_path / "run"), "best").step == 2


def test_samples_come_from_the_averaged_weights(digits: Path) -> None:
    used = sparring.load(digits, checkpoint="last").game.generator.state_dict()
    averaged, live = last(digits).tensors("average"), last(digits).tensors("game")
    for name, value in used.items():
        assert torch.equal(value, averaged[f"generator.{name}"])
    assert not torch.equal(used["body.0.weight"], live["generator.body.0.weight"])


# Going on


def test_a_longer_resumed_run_equals_one_that_was_long_from_the_start(digits: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    sparring.train(digits / "recipe.yaml", out=short, steps=3, device="cpu", quiet=True)
    result = sparring.resume(short, steps=4, device="cpu", quiet=True)
    assert result.steps == 4
    for name in ("weights", "game", "average", "optimizers"):
        assert_same(last(digits).tensors(name), last(short).tensors(name))
    clocks = {"seconds", "speed/samples_per_second"}
    records = [
        [{key: value for key, value in line.items() if key not in clocks} for line in Run(folder).read_metrics()]
        for folder in (digits, short)
    ]
    # The short run's end was measured; otherwise the records agree.
    records[1][2] = {key: value for key, value in records[1][2].items() if not key.startswith("metric/")}
    assert records[0] == records[1]


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(
    digits: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = last(run).folder / "game.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    sparring.resume(run, device="cpu")
    assert f"passing over a damaged checkpoint: {file}: missing or not what was written" in capsys.readouterr().err
    for name in ("weights", "game", "average", "optimizers"):
        assert_same(last(digits).tensors(name), last(run).tensors(name))


def test_a_run_whose_checkpoints_are_all_damaged_is_the_users_to_train_anew(run: Path) -> None:
    for checkpoint in list_checkpoints(run / "checkpoints"):
        (checkpoint.folder / "optimizers.safetensors").unlink()
    with pytest.raises(UserError, match="has no usable checkpoint; train it anew"):
        sparring.resume(run, device="cpu", quiet=True)


def test_finetune_takes_what_fits_and_names_what_starts_fresh(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    sparring.finetune(digits, data="digits", out=out, steps=0, set=["data.classes=[0, 1, 2]"], device="cpu")
    old, new = last(digits).tensors("game"), last(out).tensors("game")
    fresh = {name for name, value in new.items() if old[name].shape != value.shape}
    # Three labels instead of ten change what joins the latent and the image.
    assert fresh == {"generator.body.0.weight", "discriminator.body.0.weight"}
    assert_same(
        {name: old[name] for name in new if name not in fresh}, {n: v for n, v in new.items() if n not in fresh}
    )
    said = capsys.readouterr().err
    assert f"took {len(new) - 2} of {len(new)} tensors from {last(digits).folder}" in said
    assert all(name in said.split("these start fresh: ")[1] for name in fresh)


def test_finetune_begins_a_new_training_on_the_new_data(digits: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8), labels=np.arange(30) // 3)
    out = tmp_path / "tuned"
    sparring.finetune(digits, data=str(tmp_path / "noise.npz"), out=out, steps=2, device="cpu", quiet=True)
    first = list_checkpoints(out / "checkpoints")[0]
    assert first.step == 0
    assert first.tensors("optimizers") == {}
    assert first.state()["state"]["seen"] == 0
    assert Run(out).read_spec()[0].count == 30
    assert Run(out).read_recipe().data["source"] == str(tmp_path / "noise.npz")
    assert last(out).step == 2
    assert not torch.equal(last(out).tensors("game")["generator.body.0.weight"], last(digits).tensors("game")["generator.body.0.weight"])  # fmt: skip


def test_finetune_draws_labels_as_often_as_the_new_data_has_them(digits: Path, tmp_path: Path) -> None:
    labels = np.array([4] * 11 + list(range(10)))
    np.savez(tmp_path / "fours.npz", images=np.zeros((21, 8, 8), np.uint8), labels=labels)
    out = tmp_path / "tuned"
    sparring.finetune(digits, data=str(tmp_path / "fours.npz"), out=out, steps=0, device="cpu", quiet=True)
    assert sparring.load(out).game.label_weights.tolist() == [1, 1, 1, 1, 12, 1, 1, 1, 1, 1]


def test_finetune_starts_from_the_checkpoint_that_is_named(digits: Path, tmp_path: Path) -> None:
    for step in (0, 2):
        out = tmp_path / str(step)
        sparring.finetune(digits, data="digits", out=out, steps=0, checkpoint=step, device="cpu", quiet=True)
        assert_same(find_checkpoint(Run(digits), step).tensors("game"), last(out).tensors("game"))


def test_finetune_refuses_networks_of_another_kind(digits: Path, tmp_path: Path) -> None:
    sets = ["model.generator.name=mlp", "model.discriminator.name=mlp", "data.classes=[0, 1]"]
    with pytest.raises(UserError, match="none of its weights fits the new networks"):
        sparring.finetune(digits, data="digits", out=tmp_path / "x", steps=0, set=sets, device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


# What may be wrong with the data, or with a stranger's run


def test_broken_images_are_skipped_and_named_in_the_result(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(8):
        Image.fromarray(np.full((8, 8), 30 * index, np.uint8)).save(photos / f"{index}.png")
    (photos / "bad.png").write_bytes(b"not an image")
    (photos / "cut.png").write_bytes((photos / "3.png").read_bytes()[:40])
    result = train("gan", tmp_path / "run", **{"data.source": photos, "train.steps": 1})
    assert result.facts["data"]["count"] == 8
    assert {name for name, _ in result.facts["data"]["broken"]} == {"bad.png", "cut.png"}
    assert all(reason for _, reason in result.facts["data"]["broken"])


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["weights", "game", "average", "optimizers", "random-0000"])
def test_a_pickle_in_the_place_of_tensors_is_never_opened(run: Path, tmp_path: Path, name: str) -> None:
    bomb = tmp_path / "exploded"
    content = pickle.dumps(Bomb(bomb))
    zipped = tmp_path / "torch.pt"
    torch.save(Bomb(bomb), zipped)
    for payload in (content, zipped.read_bytes()):
        for checkpoint in list_checkpoints(run / "checkpoints"):
            (checkpoint.folder / f"{name}.safetensors").write_bytes(payload)
        with pytest.raises(Damaged, match="cannot be read"):
            last(run).tensors(name)
        with pytest.raises(UserError, match="no usable checkpoint"):
            sparring.resume(run, device="cpu", quiet=True)
        if name == "weights":
            with pytest.raises(UserError, match=r"weights\.safetensors cannot be read"):
                sparring.load(run)
    assert not bomb.exists()
    pickle.loads(content)
    assert bomb.exists()  # the bomb is live


def test_loading_a_run_imports_nothing_that_it_names(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = run / "recipe.yaml"
    file.write_text(file.read_text().replace("name: dcgan\n    width", "name: stranger:Net\n    width", 1))
    with pytest.raises(UserError, match=r"code from outside the package \(stranger:Net\)"):
        sparring.load(run)
    assert "stranger" not in sys.modules


def test_loading_leaves_the_random_numbers_of_a_fresh_process_reproducible(digits: Path) -> None:
    trained = sparring.load(digits)
    pieces = list(trained.generate(10, seed=2, batch_size=4))
    assert [len(piece["data"]) for piece in pieces] == [4, 4, 2]
    assert not trained.game.training
    assert not any(piece["data"].requires_grad for piece in pieces)
