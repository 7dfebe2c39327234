"""The command line's contract: what each command prints, each exit code, and one line for each error of the user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from shell import TINY, Ended, sets, sparring
from sparring import api, cli
from sparring.errors import Interrupted
from sparring.recipe import load_recipe, named_recipes
from sparring.training.checkpoint import list_checkpoints

CPU = ("--device", "cpu")
TRAIN_KEYS = {
    "run", "recipe", "steps", "seconds", "samples_per_second", "seed", "device", "precision", "losses", "metrics",
}  # fmt: skip


def train(recipe: str, out: Path, *words: str, **keys: Any) -> Ended:
    return sparring("train", recipe, "--out", out, "--steps", 2, *CPU, *words, *sets({**TINY, **keys}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two runs: `plain` without labels and `labelled` with them."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(root / "cache"))
        for recipe, name in (("dcgan", "plain"), ("cgan", "labelled")):
            assert train(recipe, root / name).code == 0
    yield root


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def plain(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run without labels, to be changed."""
    return Path(shutil.copytree(trained / "plain", tmp_path / "plain"))


@pytest.fixture
def labelled(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run with labels."""
    return Path(shutil.copytree(trained / "labelled", tmp_path / "labelled"))


def write_images(folder: Path, shapes: list[tuple[int, int]], seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index, shape in enumerate(shapes):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{seed}-{index:03d}.png")
    return folder


def edit_recipe(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    change(values)
    (run / "recipe.yaml").write_text(yaml.safe_dump(values))


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train dcgam", r"unknown recipe 'dcgam' (did you mean 'dcgan'?)"),
        ("train missing.yaml", r"no such recipe file 'missing.yaml'"),
        ("train dcgan --set train.stepz=3", r"unknown key 'train.stepz' (did you mean 'steps'?)"),
        ("train dcgan --set trian.steps=3", r"unknown key 'trian' (did you mean 'train'?)"),
        ("train dcgan --set data.sise=8", r"unknown key 'data.sise' (did you mean 'size'?)"),
        ("train dcgan --set model.latnt=8", r"unknown key 'model.latnt' (did you mean 'latent'?)"),
        ("train dcgan --set model.generator.widht=8", r"'model.generator.widht' (did you mean 'width'?)"),
        ("train dcgan --set loss.nam=hinge", r"unknown key 'loss.nam' (did you mean 'name'?)"),
        ("train dcgan --set loss.name=hing", r"unknown loss 'hing' (did you mean 'hinge'?)"),
        ("train dcgan --set loss.penalties.r3.weight=1", r"unknown penalty 'r3' (did you mean 'r2'?)"),
        ("train dcgan --set train.optimizer.name=adan", r"unknown optimiser 'adan' (did you mean 'adam'?)"),
        ("train dcgan --set train.optimizer.lr=-1", r"Invalid learning rate: -1"),
        ("train dcgan --set train.players.discriminatr.optimizer.lr=1", r"(did you mean 'discriminator'?)"),
        ("train dcgan --set model.generator.name=dcgam", r"unknown generator 'dcgam' (did you mean 'dcgan'?)"),
        ("train dcgan --set model.generator.name=3", r"unknown generator '3'; there are began, biggan, dcgan,"),
        ("train dcgan --set game=adversary", r"unknown game 'adversary' (did you mean 'adversarial'?)"),
        ("train dcgan --set domain=imag", r"unknown domain 'imag' (did you mean 'image'?)"),
        ("train dcgan --set evaluate.metric=recal", r"unknown metric 'recal' (did you mean 'recall'?)"),
        ("train dcgan --set evaluate.metric=psnr", r"evaluate.metric=psnr compares pairs"),
        ("train dcgan --set evaluate.patience=3", r"patience needs a metric"),
        ("train dcgan --set train.steps", r"write KEY=VALUE"),
        ("train dcgan --set =3", r"write KEY=VALUE"),
        ("train dcgan --set train.steps=soon", r"train.steps: input should be a valid integer"),
        ("train dcgan --set train.steps=[", r"the value is not valid YAML"),
        ("train dcgan --set train.steps=null", r"the recipe has no end"),
        ("train dcgan --data missing", r"missing: no such file or folder"),
        ("train dcgan --device gpu", r"Invalid value for '--device'"),
        ("train dcgan --device cuda", r"this machine has no usable cuda device"),
        ("train dcgan --device cpu --precision 16", r"16-bit floats need a GPU"),
        ("train dcgan --steps soon", r"Invalid value for '--steps'"),
        ("train dcgan --seed -1", r"Invalid value for '--seed'"),
        ("train dcgan extra", r"unexpected extra argument"),
        ("train --nope", r"No such option: --nope"),
        ("train aae --set model.conditional=true", r"unknown key 'model.conditional'"),
        ("frobnicate", r"No such command 'frobnicate'"),
        ("recipes dcgam", r"unknown recipe 'dcgam' (did you mean 'dcgan'?)"),
        ("resume missing", r"missing: no such run folder"),
        ("resume .", r".: not a run (it has no recipe.yaml)"),
        ("generate .", r".: not a run (it has no recipe.yaml)"),
        ("generate missing --count 0", r"Invalid value for '--count'"),
        ("finetune missing", r"Missing option '--data'"),
        ("finetune missing --data digits", r"missing: no such run folder"),
        ("data check missing", r"missing: no such file or folder"),
        ("data prepare digits out --size 0x4", r"--size '0x4': write one number, or HEIGHTxWIDTH"),
        ("data prepare digits out --size 4x", r"--size '4x': write one number, or HEIGHTxWIDTH"),
        ("data prepare digits out --format npy", r"there is no format 'npy' (did you mean 'npz'?)"),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_ends_in_one_line_and_leaves_nothing_behind(
    words: str, message: str, here: Path
) -> None:
    assert message in sparring(*words.split()).error
    assert list(here.iterdir()) == []


def test_a_folder_without_images_says_what_was_looked_for(here: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "readme.txt").write_text("no image")
    error = sparring("train", "dcgan", "--data", "photos", *CPU).error
    assert "photos: found no images (looked for .png .jpg" in error
    assert "is the path right?" in error


def test_images_of_different_sizes_need_a_size_and_the_error_says_so(here: Path) -> None:
    write_images(here / "photos", [(8, 8), (8, 9)])
    assert "data.size" in sparring("train", "dcgan", "--data", "photos", *CPU).error


@pytest.mark.parametrize("recipe", ["cgan", "acgan"])
def test_a_conditional_recipe_refuses_data_without_labels(here: Path, recipe: str) -> None:
    write_images(here / "photos", [(8, 8)] * 4)
    assert "the data has none" in sparring("train", recipe, "--data", "photos", *CPU).error


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'sparring[hf]'" in sparring("train", "dcgan", "--data", "hf:mnist", *CPU).error


def test_training_into_a_run_is_refused_and_leaves_it_as_it_was(plain: Path) -> None:
    before = (plain / "recipe.yaml").read_bytes()
    assert f"already holds a run; `sparring resume {plain}` goes on" in train("gan", plain).error
    assert (plain / "recipe.yaml").read_bytes() == before


def test_an_output_that_cannot_be_a_folder_is_the_users_error(plain: Path) -> None:
    assert "Not a directory" in train("dcgan", plain / "recipe.yaml" / "run").error
    assert "File exists" in sparring("generate", plain, "--out", plain / "recipe.yaml", "--format", "png").error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--checkpoint 7", "has no checkpoint '7'; there are best, last, 0, 2"),
        ("--checkpoint newest", "has no checkpoint 'newest'"),
        ("--format jpg", "unknown format 'jpg' (did you mean 'png'?); there are png, npz, npy, sheet"),
        ("--label 3", "draws samples without labels"),
    ],
)
def test_generate_refuses_what_the_run_has_not(plain: Path, words: str, message: str) -> None:
    before = sorted(plain.iterdir())
    assert message in sparring("generate", plain, *CPU, *words.split()).error
    assert sorted(plain.iterdir()) == before


def test_an_unknown_label_lists_the_labels(labelled: Path) -> None:
    assert "unknown label '10'" in sparring("generate", labelled, "--label", "10", *CPU).error
    assert "there are 0, 1, 2" in sparring("generate", labelled, "--label", "ten", *CPU).error


@pytest.mark.parametrize("words", ["generate", "resume"])
def test_a_run_without_a_checkpoint_is_the_users_error(plain: Path, words: str) -> None:
    shutil.rmtree(plain / "checkpoints")
    assert "checkpoint" in sparring(words, plain, *CPU).error


def test_generate_names_a_damaged_checkpoint(plain: Path) -> None:
    (plain / "checkpoints" / "step-00000002" / "weights.safetensors").write_bytes(b"nothing")
    assert "weights.safetensors cannot be read" in sparring("generate", plain, *CPU).error
    assert sparring("generate", plain, "--checkpoint", "0", "--count", "2", *CPU).code == 0


def test_generate_refuses_a_recipe_that_no_longer_fits_the_weights(plain: Path) -> None:
    edit_recipe(plain, lambda values: values["model"]["generator"].update(width=8))
    assert "the weights do not fit the generator" in sparring("generate", plain, *CPU).error


def test_resume_refuses_a_changed_recipe_and_lists_the_differences(plain: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["train"]["batch_size"] = 16
        values["loss"]["name"] = "hinge"

    edit_recipe(plain, change)
    error = sparring("resume", plain, "--steps", 3, *CPU).error
    assert "train.batch_size: 8 → 16" in error
    assert "loss.name: non_saturating → hinge" in error
    assert "train.steps" not in error


def test_resume_takes_a_new_length_from_the_recipe(plain: Path) -> None:
    edit_recipe(plain, lambda values: values["train"].update(steps=3))
    assert sparring("resume", plain, "--json", *CPU).json["steps"] == 3


def test_resume_refuses_fewer_steps_than_were_played(plain: Path) -> None:
    assert "already at step 2" in sparring("resume", plain, "--steps", 1, *CPU).error


def test_resume_refuses_another_number_of_processes_where_each_has_noise_of_its_own(here: Path) -> None:
    assert train("gan", here / "run", "--set", "train.shared_noise=false").code == 0
    (file,) = (here / "run" / "checkpoints").glob("step-*2/state.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "world": 2}))
    assert "trained by 2 processes" in sparring("resume", "run", "--devices", 1, "--steps", 3, *CPU).error


def test_resume_names_what_a_checkpoint_lacks(plain: Path) -> None:
    file = plain / "checkpoints" / "step-00000002" / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "world": 2}))
    assert "noise.safetensors cannot be read" in sparring("resume", plain, "--devices", 1, "--steps", 3, *CPU).error


def test_resume_refuses_changed_data(here: Path) -> None:
    write_images(here / "photos", [(8, 8)] * 12)
    assert train("gan", here / "run", "--data", "photos").code == 0
    write_images(here / "photos", [(8, 8)], seed=1)
    assert "the data 'photos' has changed since the run began" in sparring("resume", "run", "--steps", 3, *CPU).error


FOREIGN = {
    "game": lambda values: values.update(game="foreign:Thing"),
    "generator": lambda values: values["model"]["generator"].update(name="foreign:Thing"),
    "loss": lambda values: values["loss"].update(name="foreign:Thing"),
    "penalty": lambda values: values["loss"].update(penalties={"foreign:Thing": {"weight": 1.0}}),
    "optimiser": lambda values: values["train"]["optimizer"].update(name="foreign:Thing"),
    "player's optimiser": lambda values: values["train"].update(
        players={"generator": {"optimizer": {"name": "foreign:Thing"}}}
    ),
    "schedule": lambda values: values["train"].update(schedule={"name": "foreign:Thing"}),
    "metric": lambda values: values["evaluate"].update(metric="foreign:Thing"),
}


@pytest.mark.parametrize("place", FOREIGN)
def test_a_strangers_run_imports_no_foreign_code_without_trust(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit_recipe(plain, FOREIGN[place])
    for words in (["generate", plain], ["resume", plain], ["finetune", plain, "--data", "digits"]):
        error = sparring(*words, *CPU).error
        assert "foreign:Thing" in error and "pass --trust if it is yours" in error
    assert not (tmp_path / "ran").exists()
    assert "foreign" not in sys.modules


def test_a_name_that_no_module_can_have_is_not_imported_either(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "for-eign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit_recipe(plain, lambda values: values["model"]["generator"].update(name="for-eign:Thing"))
    assert "write module:Name" in sparring("generate", plain, *CPU).error
    assert not (tmp_path / "ran").exists()


def test_a_batch_that_the_processes_cannot_share_is_the_users_error() -> None:
    from sparring.data.sampling import Sampler
    from sparring.errors import UserError

    with pytest.raises(UserError, match=r"a batch of 9 cannot be shared evenly by 2 processes.*batch_size=8"):
        Sampler(100, 9, 0, rank=0, world=2)


@pytest.mark.slow
def test_two_processes_end_with_one_line_where_the_user_erred(here: Path) -> None:
    command = [sys.executable, "-m", "sparring", "train", "dcgan", "--data", "missing", "--devices", "2", *CPU]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.strip() == "error: missing: no such file or folder; is the path right?"


# Defects and interruptions


def test_a_defect_ends_with_a_traceback_and_exit_code_1() -> None:
    program = (
        "import sys, types\n"
        "def train(*words, **options): raise ValueError('our fault')\n"
        "sys.modules['sparring.api'] = types.SimpleNamespace(train=train)\n"
        "import sparring; sparring.api = sys.modules['sparring.api']\n"
        "from sparring.cli import main\n"
        "sys.argv = ['sparring', 'train']; main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert ended.stderr.rstrip().endswith("ValueError: our fault")
    assert ended.stdout == ""


def test_an_unforeseen_file_error_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_data(*words: Any, **options: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ours")

    monkeypatch.setattr(api, "check_data", check_data)
    with pytest.raises(FileNotFoundError):
        sparring("data", "check", "digits")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped at step 3")])
def test_interruptions_exit_with_130(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def interrupted(*words: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(api, "train", interrupted)
    ended = sparring("train")
    assert (ended.code, ended.out, ended.err) == (130, "", f"{error}\n" if str(error) else "interrupted\n")


def test_ctrl_c_saves_says_how_to_go_on_and_resume_completes(here: Path) -> None:
    command = [sys.executable, "-m", "sparring", "train", "gan", "--out", "run", "--steps", "1000000", *CPU]
    keys = {**TINY, "train.log_every": 1, "train.sample_every": 10**6, "train.checkpoint_every": 10**6}
    process = subprocess.Popen([*command, *sets(keys)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((here / "run/metrics.jsonl").exists() and (here / "run/metrics.jsonl").stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    step = list_checkpoints(here / "run/checkpoints")[-1].step
    assert step > 0
    assert errors.splitlines()[-1] == f"stopped at step {step}; the state is saved: `sparring resume run` goes on"
    assert sparring("resume", "run", "--steps", step + 2, "--json", *CPU).json["steps"] == step + 2


# Output


def test_train_prints_one_json_object_with_the_keys_of_the_contract(here: Path) -> None:
    ended = sparring("train", "gan", "--out", "run", "--steps", 2, "--seed", 5, "--json", *CPU, *sets(TINY))
    assert ended.json.keys() >= TRAIN_KEYS
    got = {key: ended.json[key] for key in ("run", "recipe", "steps", "seed", "device", "precision")}
    assert got == {"run": "run", "recipe": "gan", "steps": 2, "seed": 5, "device": "cpu", "precision": "32"}
    assert ended.json["losses"]["loss/generator/adversarial"] > 0
    assert ended.json["samples_per_second"] > 0
    assert "does not use" in ended.err  # the notes go elsewhere


def test_train_without_json_says_where_things_are_and_what_to_type_next(here: Path) -> None:
    ended = train("gan", Path("run"))
    assert ended.out == ""
    first, second = ended.err.splitlines()[-2:]
    for word in first.split():
        assert not word.startswith("run/") or Path(word.rstrip(",")).exists()
    assert "run/samples/step-00000002.png" in first and "run/curves.png" in first and "run/report.html" in first
    assert second == "next: sparring generate run --count 100 --out samples.png"


def test_train_without_out_counts_run_folders_up(here: Path) -> None:
    words = ("train", "gan", "--steps", 0, "--json", *CPU, *sets(TINY))
    assert [sparring(*words).json["run"] for _ in range(2)] == ["runs/gan-1", "runs/gan-2"]


def test_resume_and_finetune_print_what_train_prints(plain: Path, here: Path) -> None:
    resumed = sparring("resume", plain, "--steps", 3, "--json", *CPU).json
    assert resumed.keys() >= TRAIN_KEYS
    assert (resumed["run"], resumed["steps"]) == (str(plain), 3)
    words = ("finetune", plain, "--data", "digits", "--steps", 1, "--out", "tuned", "--json", *CPU)
    tuned = sparring(*words).json
    assert tuned.keys() >= TRAIN_KEYS
    assert (tuned["run"], tuned["steps"]) == ("tuned", 1)


def test_generate_prints_its_files(plain: Path, here: Path) -> None:
    printed = sparring("generate", plain, "--count", 3, "--seed", 4, "--out", "new", "--json", *CPU).json
    assert printed == {"count": 3, "seed": 4, "files": [f"new/{index:06d}.png" for index in range(3)]}
    assert all(Path(file).is_file() for file in printed["files"])
    assert sparring("generate", plain, "--count", 3, "--out", "sheet.png", *CPU).err == "3 samples: sheet.png\n"


def test_recipes_lists_every_recipe_with_its_paper() -> None:
    listed = sparring("recipes", "--json").json
    assert listed.keys() == named_recipes().keys()
    assert listed["wgan"]["domain"] == "image"
    assert "Arjovsky" in listed["wgan"]["paper"]
    table = sparring("recipes")
    assert table.code == 0
    assert all(name in table.out for name in listed)


@pytest.mark.parametrize("name", sorted(named_recipes()))
def test_a_printed_recipe_is_a_file_that_resolves_to_the_same_recipe(name: str, here: Path) -> None:
    printed = sparring("recipes", name)
    assert printed.code == 0
    (here / "mine.yaml").write_text(printed.out)
    assert sparring("recipes", "mine.yaml").out == printed.out
    assert yaml.safe_load(printed.out) == sparring("recipes", name, "--json").json
    assert api.resolve(load_recipe("mine.yaml")) == api.resolve(load_recipe(name))


def test_a_printed_recipe_trains_the_same_run(here: Path) -> None:
    (here / "mine.yaml").write_text(sparring("recipes", "gan").out)
    for recipe, out in (("gan", "a"), ("mine.yaml", "b")):
        assert train(recipe, Path(out)).code == 0
    assert Path("a/recipe.yaml").read_bytes() == Path("b/recipe.yaml").read_bytes()
    weights = [Path(run, "checkpoints/step-00000002/weights.safetensors").read_bytes() for run in ("a", "b")]
    assert weights[0] == weights[1]


def test_data_check_reports_in_words_and_as_json(here: Path) -> None:
    write_images(here / "photos", [(8, 8)] * 3)
    shutil.copy("photos/0-000.png", "photos/copy.png")
    (here / "photos" / "bad.png").write_bytes(b"not an image")
    report = sparring("data", "check", "photos", "--json").json
    kinds = {finding["name"]: finding["kind"] for finding in report["findings"]}
    assert "duplicate" in kinds["copy.png"]
    assert "bad.png" in kinds
    words = sparring("data", "check", "photos")
    assert words.code == 0
    assert "copy.png" in words.out and "bad.png" in words.out


def test_data_prepare_writes_a_set_that_trains(here: Path) -> None:
    write_images(here / "photos", [(8, 8), (10, 12), (12, 9)])
    prepared = sparring("data", "prepare", "photos", "small", "--size", 8, "--channels", 1, "--json").json
    assert (prepared["out"], prepared["written"]) == ("small", 3)
    assert sparring("train", "gan", "--data", "small", "--dry-run", "--json", *CPU, *sets(TINY)).json["data"][
        "shape"
    ] == [1, 8, 8]
    assert "exists already" in sparring("data", "prepare", "photos", "small").error


# Rehearsals and help


def test_a_dry_run_writes_nothing_and_predicts(here: Path) -> None:
    words = ("train", "gan", "--steps", 5000, "--dry-run", *CPU, *sets({**TINY, "data.limit": 1797}))
    facts = sparring(*words, "--json").json
    assert facts["run"] is None and facts["steps"] == 0 and facts["dry_run"] is True
    # 8×8 digits: 100 → 4 → 8 → 16 → 64 with batch norm after the second and third, and 64 → 8 → 4 → 1.
    assert facts["parameters"]["discriminator"] == 64 * 8 + 8 + 8 * 4 + 4 + 4 + 1
    assert facts["parameters"]["generator"] == 100 * 4 + 4 + 4 * 8 + 16 + 8 * 16 + 32 + 16 * 64 + 64
    assert facts["memory_bytes"] > 2**20
    assert facts["predicted_seconds"] == pytest.approx(5000 * facts["seconds_per_step"], rel=0.01)
    shown = sparring(*words)
    assert shown.code == 0 and shown.out == ""
    for word in ("parameters of the generator", "memory", "predicted", "5,000 steps", "digits: 1,797 samples"):
        assert word in " ".join(shown.err.split())
    assert list(here.iterdir()) == []


def test_a_dry_run_predicts_the_end_that_comes_first(here: Path) -> None:
    words = ("train", "gan", "--steps", 10**6, "--dry-run", "--json", *CPU, *sets({**TINY, "data.limit": 80}))
    assert sparring(*words, "--set", "train.epochs=2").json["planned_steps"] == 2 * 80 // 8
    assert sparring(*words, "--set", "train.minutes=0.01").json["predicted_seconds"] == pytest.approx(0.6)


def commands() -> dict[str, Any]:
    """Every command by the words that call it."""
    root = typer.main.get_command(cli.app)
    found = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for inner, each in getattr(command, "commands", {"": command}).items():
            found[f"{name} {inner}".strip()] = each
    return found


def test_the_commands_are_those_of_the_contract() -> None:
    assert commands().keys() == {
        "train", "resume", "finetune", "generate", "evaluate", "compare", "export", "translate", "project", "directions", "metrics", "recipes", "data check", "data prepare",
    }  # fmt: skip


@pytest.mark.parametrize("words", commands())
def test_help_explains_the_command_and_each_of_its_options(words: str) -> None:
    command = commands()[words]
    shown = sparring(*words.split(), "--help")
    assert shown.code == 0
    text = " ".join(shown.out.split())
    assert command.help.split(";")[0].split(",")[0][:40] in text
    for option in command.params:
        if option.name != "help":
            assert option.help, f"{words}: {option.name} is not explained"
            assert any(name in text for name in (*option.opts, str(option.metavar)))


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys, json; from sparring.cli import app\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    app([*words.split(), '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'sparring.api', 'PIL', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    words = json.dumps(["", *commands()])
    ended = subprocess.run(
        [sys.executable, "-c", program, words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_no_command_at_all_shows_the_help_and_no_empty_error() -> None:
    for words in ((), ("data",)):
        ended = sparring(*words)
        assert (ended.code, ended.err) == (2, "")
        assert "Usage:" in ended.out and "--help" in ended.out
