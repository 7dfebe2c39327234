"""The vector domain as the verbs see it: data, files, spaces, figures, checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.domain import Domain
from sparring.errors import UserError
from sparring.metrics.meter import Meter
from sparring.recipe import load_recipe
from sparring.terminal import show_findings

torch.set_num_threads(1)

NAMES = ("ant", "bee")


@pytest.fixture
def vectors() -> Domain:
    return open_domain("vector")


def samples(count: int = 6, labels: list[int] | None = None) -> Batch:
    data = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return Batch(data=data) if labels is None else Batch(data=data, label=torch.tensor(labels))


def test_resolved_data_options_have_every_default_and_reading_them_again_changes_nothing(vectors: Domain) -> None:
    resolved = vectors.resolve_data({"source": "points.csv"})
    assert resolved == {"source": "points.csv", "label": None, "scale": "columns", "limit": None}
    assert vectors.resolve_data(resolved) == resolved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lable": "y"}, r"unknown key 'data\.lable' \(did you mean 'label'\?\)"),
        ({"scale": "column"}, r"data\.scale: input should be 'columns' or 'common'"),
        ({"limit": 0}, r"data\.limit"),
    ],
)
def test_wrong_data_options_are_one_line(vectors: Domain, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        vectors.resolve_data(options)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_a_saved_labelled_set_can_be_trained_on_to_the_last_bit(vectors: Domain, tmp_path: Path, form: str) -> None:
    labels = [0, 1, 1, 0, 1, 0]
    path = tmp_path / f"set.{form}"
    assert vectors.save(iter([samples(6, labels)] * 2), NAMES, path, form) == [path]
    data = vectors.open_data({"source": str(path)})
    batch = data.batch(torch.arange(12))
    assert torch.equal(batch["data"], samples()["data"].repeat(2, 1))
    assert batch["label"].tolist() == labels * 2 and data.spec.classes == NAMES


def test_npy_and_csv_without_labels_hold_the_samples_alone(vectors: Domain, tmp_path: Path) -> None:
    whole = Batch(samples(), real=torch.zeros(6, 3))
    vectors.save([whole], (), tmp_path / "set.npy", "npy")
    assert np.array_equal(np.load(tmp_path / "set.npy", allow_pickle=False), samples()["data"].numpy())
    vectors.save([whole], (), tmp_path / "set.csv", "csv")
    assert (tmp_path / "set.csv").read_text().splitlines()[0] == "x1,x2,x3"


def test_samples_that_are_not_finite_are_not_saved(vectors: Domain, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the generator has diverged"):
        vectors.save([Batch(data=torch.tensor([[torch.nan]]))], (), tmp_path / "set.csv", "csv")
    assert not list(tmp_path.iterdir())


def test_a_sheet_is_the_picture_that_show_draws(vectors: Domain, tmp_path: Path) -> None:
    batch = Batch(samples(), real=torch.randn(6, 3, generator=torch.Generator().manual_seed(1)))
    vectors.show(batch, (), tmp_path / "shown.png")
    vectors.save([batch], (), tmp_path / "saved.png", "sheet")
    assert (tmp_path / "shown.png").read_bytes() == (tmp_path / "saved.png").read_bytes()


def test_standardised_figures_do_not_know_units_and_raw_ones_do(vectors: Domain, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 0.5
    values: dict[tuple[str, float], float] = {}
    for unit in (1.0, 1000.0):
        np.save(tmp_path / "real.npy", points * [1, unit])
        data = vectors.open_data({"source": str(tmp_path / "real.npy")})
        fake = Batch(data=torch.from_numpy(others * [1, unit]).float())
        for space in vectors.spaces:
            meter = Meter(vectors.open_features(space, data), vectors.measures, data.batch(torch.arange(300)))
            values[space, unit] = meter.values(fake, "sliced_wasserstein")["sliced_wasserstein"].number
    assert values["standardised", 1000.0] == pytest.approx(values["standardised", 1.0], rel=1e-4)
    assert values["raw", 1000.0] > 100 * values["raw", 1.0]
    with pytest.raises(UserError, match=r"unknown features 'pixels'.*vectors have standardised, raw"):
        vectors.open_features("pixels", data)


def test_a_space_is_another_for_other_data(vectors: Domain) -> None:
    digests = {vectors.open_features("auto", vectors.open_data({"source": name})).digest for name in ("ring", "grid")}
    assert len(digests) == 2


def test_a_reference_has_the_runs_columns_and_the_numbers_of_its_classes(vectors: Domain, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("x,kind\n1,ant\n2,bee\n3,cat\n")
    (tmp_path / "other.csv").write_text("x,kind\n5,cat\n6,bee\n")
    (tmp_path / "wide.csv").write_text("x,y,kind\n5,6,cat\n6,7,bee\n")
    (tmp_path / "strange.csv").write_text("x,kind\n5,cat\n6,dog\n")
    options: dict[str, Any] = {"source": str(tmp_path / "run.csv"), "label": "kind"}
    spec = vectors.open_data(options).spec
    other = vectors.open_reference(str(tmp_path / "other.csv"), options, spec)
    assert other.batch(torch.arange(2))["label"].tolist() == [2, 1] and other.spec.classes == spec.classes
    with pytest.raises(UserError, match="has 2 columns where the other side has 1"):
        vectors.open_reference(str(tmp_path / "wide.csv"), options, spec)
    with pytest.raises(UserError, match="label 'dog' is not one of ant, bee, cat"):
        vectors.open_reference(str(tmp_path / "strange.csv"), options, spec)


def test_files_are_compared_as_they_are(vectors: Domain, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "b.npy", np.arange(8.0).reshape(4, 2) * 9)
    fake, real = vectors.open_samples(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    assert (len(fake), len(real)) == (3, 4)
    assert fake.batch(torch.tensor([2]))["data"].tolist() == [[4, 5]]
    with pytest.raises(UserError, match="ring: has 2 columns where the other side has 3"):
        np.save(tmp_path / "c.npy", np.arange(9.0).reshape(3, 3))
        vectors.open_samples("ring", str(tmp_path / "c.npy"))


def test_a_check_finds_what_was_planted(vectors: Domain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(size=(200, 3))
    values[:, 1] = 4
    values[17], values[50, 0], values[99, 2] = values[3], 1e4, np.nan
    np.save(tmp_path / "a.npy", values)
    report = vectors.check(str(tmp_path / "a.npy")).plain()
    assert report["unusable"] == [99] and report["copies"] == [17] and report["far"] == [50]
    assert report["constant"] == [1]
    assert report["counts"] == {"unusable": 1, "copies": 1, "far": 1, "constant": 1}
    assert report["summary"]["rows"] == 200 and report["summary"]["largest"] == 1e4
    show_findings(report)
    said = capsys.readouterr().out
    assert all(name in said for name in ("row 99", "row 17", "row 50", "column 1"))


def test_a_prepared_copy_is_without_what_cannot_be_used_and_the_source_stays(vectors: Domain, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x,label\n1,ant\n,bee\n1,ant\n2,bee\n")
    before = source.read_bytes()
    result = vectors.prepare(str(source), tmp_path / "b.npz", clean=True)
    assert result.plain()["removed"] == {"unusable": 1, "copies": 1} and result.written == 2
    data = vectors.open_data({"source": str(tmp_path / "b.npz")})
    assert data.batch(torch.arange(2))["data"].flatten().tolist() == [1, 2]
    assert data.spec.classes == NAMES and not data.broken and source.read_bytes() == before


def test_a_short_training_moves_samples_towards_the_data_and_can_be_drawn_from(tmp_path: Path) -> None:
    """Through the verbs, on data far from 0: standards are undone once, and once only."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.normal(size=(500, 2)) * [3, 0.1] + [700, -4])
    run = sparring.train(
        load_recipe("vector-default"),
        data=str(tmp_path / "data.npy"),
        out=tmp_path / "run",
        steps=120,
        device="cpu",
        set=[
            "model.generator.width=32", "model.discriminator.width=32", "train.batch_size=64", "evaluate.count=300",
            "train.ema.half_life=0",
        ],
        quiet=True,
    )  # fmt: skip
    assert run.metrics["sliced_wasserstein"] < 0.5  # in standard deviations
    (file,) = sparring.generate(tmp_path / "run", count=400, out=tmp_path / "new.npy", format="npy", checkpoint="last")
    new = np.load(file, allow_pickle=False)
    assert new.shape == (400, 2)
    assert new.mean(axis=0) == pytest.approx([700, -4], abs=1.5)
    assert 0.02 < new[:, 1].std() < 0.3 and 0.6 < new[:, 0].std() < 9
    assert (tmp_path / "run" / "samples" / "step-00000120.png").exists()
