"""Vector data: sources to rows, rows to batches, and what they are standardised by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparring.domains.vector.data import VectorData, VectorOptions, open_vectors
from sparring.domains.vector.mixtures import MIXTURES, grid, ring
from sparring.domains.vector.sources import open_rows
from sparring.errors import UserError

torch.set_num_threads(1)


def opened(source: object, **options: object) -> VectorData:
    return open_vectors(VectorOptions.model_validate({"source": str(source), **options}))


def everything(data: VectorData) -> torch.Tensor:
    return data.batch(torch.arange(len(data)))["data"]


@pytest.mark.parametrize(("name", "modes", "deviation"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_a_mixture_puts_its_share_of_points_around_each_centre(name: str, modes: int, deviation: float) -> None:
    mixture = MIXTURES[name]()
    points = opened(name).batch(torch.arange(100_000))["data"].double().numpy()
    distances = np.linalg.norm(points[:, None] - mixture.centres, axis=2)
    nearest = distances.argmin(axis=1)
    assert mixture.deviation == deviation and len(mixture.centres) == modes
    assert np.bincount(nearest, minlength=modes) == pytest.approx(100_000 / modes, rel=0.06)
    offsets = points - mixture.centres[nearest]
    assert offsets.std(axis=0) == pytest.approx([deviation, deviation], rel=0.02)
    # Of a Gaussian in the plane, e^(−9/2) lies beyond three deviations.
    assert (distances.min(axis=1) > 3 * deviation).mean() == pytest.approx(np.exp(-4.5), rel=0.15)


def test_the_ring_has_radius_one_and_the_grid_reaches_from_minus_four_to_four() -> None:
    assert np.linalg.norm(ring().centres, axis=1) == pytest.approx(np.ones(8))
    assert sorted({tuple(centre) for centre in grid().centres}) == [
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    ]


def test_a_mixture_is_always_the_same_and_its_neighbours_in_the_file_are_of_different_modes() -> None:
    first, second = opened("ring"), opened("ring")
    assert first.fingerprint == second.fingerprint and torch.equal(everything(first), everything(second))
    assert first.fingerprint != opened("grid").fingerprint
    assert len({tuple(point.round().tolist()) for point in everything(first)[:20]}) > 3


def test_one_set_of_numbers_is_the_same_data_in_every_kind_of_file(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", points)
    np.savez(tmp_path / "b.npz", points=points)
    lines = [",".join(str(value) for value in row) for row in points]
    (tmp_path / "c.csv").write_text("\n".join(["x,y,z", *lines]))
    (tmp_path / "d.csv").write_text("\n".join(lines))
    (tmp_path / "e.tsv").write_text("\n".join(lines).replace(",", "\t"))
    (tmp_path / "f.csv").write_text("\ufeffx;y;z\n" + "\n".join(lines).replace(",", ";") + "\n\n")
    read = [everything(opened(file)) for file in sorted(tmp_path.iterdir())]
    assert len(read) == 6
    for each in read:
        torch.testing.assert_close(each, torch.from_numpy(points), rtol=0, atol=0)


def test_numbers_without_a_second_axis_are_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "line.npy", np.arange(5))
    data = opened(tmp_path / "line.npy")
    assert data.spec.shape == (1,) and everything(data).flatten().tolist() == [0, 1, 2, 3, 4]


def test_labels_are_a_column_by_its_name_or_by_the_users_word(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label,kind\n1,10,4\n2,9,5\n3,10,4\n")
    data = opened(tmp_path / "a.csv")
    assert data.spec.classes == ("9", "10") and data.spec.extra["label_counts"] == [1, 2]
    assert data.batch(torch.tensor([0, 1]))["label"].tolist() == [1, 0]
    assert everything(data).tolist() == [[1, 4], [2, 5], [3, 4]]
    assert opened(tmp_path / "a.csv", label="kind").spec.classes == ("4", "5")


def test_labels_of_an_npz_may_number_its_class_names(tmp_path: Path) -> None:
    points = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "a.npz", data=points, labels=np.array([1, 0, 1]), classes=np.array(["no", "yes"]))
    assert open_rows(str(tmp_path / "a.npz")).labels == ["yes", "no", "yes"]
    np.savez(tmp_path / "b.npz", data=points, y=np.array([[2], [0], [1]]))
    assert open_rows(str(tmp_path / "b.npz")).labels == ["2", "0", "1"]


def test_rows_with_a_missing_or_endless_number_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n,4\n5,inf\n7,8\n")
    data = opened(tmp_path / "a.csv")
    assert everything(data).tolist() == [[1, 2], [7, 8]]
    assert [name.rpartition("/")[2] for name, _ in data.broken] == ["a.csv[1]", "a.csv[2]"]


def test_a_limit_keeps_as_many_rows_with_their_own_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.arange(50.0), labels=np.arange(50))
    data = opened(tmp_path / "a.npz", limit=20)
    batch = data.batch(torch.arange(20))
    assert len(data) == 20
    assert batch["data"][:, 0].tolist() == [float(data.spec.classes[number]) for number in batch["label"]]
    assert torch.equal(everything(data), everything(opened(tmp_path / "a.npz", limit=20)))


def test_each_column_has_its_scale_or_all_have_one_and_what_is_constant_has_none(tmp_path: Path) -> None:
    columns = np.random.default_rng(0).normal(size=(500, 3)) * [1, 100, 0] + [5, -7, 3]
    np.save(tmp_path / "a.npy", columns)
    extra = opened(tmp_path / "a.npy").spec.extra
    assert extra["mean"] == pytest.approx(columns.mean(axis=0))
    assert extra["scale"] == pytest.approx(columns.std(axis=0), abs=0)
    common = opened(tmp_path / "a.npy", scale="common").spec.extra["scale"]
    assert common == pytest.approx([columns[:, :2].std(axis=0).__pow__(2).mean() ** 0.5] * 2 + [0])


def test_the_rows_kept_for_pictures_are_few_and_of_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(300, 500)))
    wide = opened(tmp_path / "wide.npy")
    shown = torch.tensor(wide.spec.extra["shown"])
    assert shown.numel() <= 20_000
    rows = {tuple(row) for row in everything(wide).tolist()}
    assert all(tuple(row) in rows for row in shown.tolist())
    assert len(opened("ring").spec.extra["shown"]) == 1000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n1,2\n3\n", "line 3: 1 values where the first line has 2"),
        ("a.csv", "x,y\n1,red\n", r"line 2: 'red' in column 'y' is not a number: .* data\.label=y"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "x,y\n1,2\n", "1 usable rows; a distribution needs at least two"),
        ("a.csv", "x,y\n1,2\n1,2\n", "all rows are equal"),
        ("a.csv", "x,y\n1700000000,2\n1700000001,3\n", r"column 1 lies at 1\.7e\+09 .* subtract an offset"),
        ("a.npy", "not an array", "cannot be read as a NumPy array"),
        ("a.npz", "not an archive", "cannot be read as NumPy arrays"),
        ("a.txt", "1 2 3", "not a source of vectors; there are ring, grid, and .npy"),
    ],
)
def test_what_cannot_be_learnt_from_is_said_in_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        opened(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((4, 3, 2))}, r"shape \(4, 3, 2\) is not \(N, D\)"),
        ({"data": np.array(["a", "b"])}, "is not numbers"),
        ({"one": np.zeros(3), "two": np.zeros(3)}, "it holds one, two: rename the points"),
        ({"data": np.arange(3.0), "labels": np.arange(2)}, r"labels of shape \(2,\) for 3 rows"),
        ({"data": np.array([{}, {}])}, "Python objects, which are never read"),
    ],
)
def test_arrays_of_another_form_are_said_in_one_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "a.npz")


def test_names_that_are_nearly_right_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x,colour\n1,2\n3,4\n")
    for source, options, message in (
        ("rign", {}, "did you mean 'ring'"),
        (tmp_path / "point.csv", {}, "no such file .did you mean 'points.csv'"),
        (tmp_path / "points.csv", {"label": "color"}, "did you mean 'colour'"),
        ("ring", {"label": "x"}, "ring has no labels"),
    ):
        with pytest.raises(UserError, match=message):
            opened(source, **options)
