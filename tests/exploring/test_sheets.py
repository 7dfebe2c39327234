"""Sheets: each cell is the sample that its row and column say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring import sheets
from sparring.exploring.film import write_film
from sparring.exploring.walks import Walk, film_walk, walk_codes
from sparring.trained import Trained

torch.set_num_threads(1)


def cells(grid: sheets.Grid) -> torch.Tensor:
    return grid.samples["data"].unflatten(0, (-1, grid.columns))


def test_rows_of_an_interpolation_begin_and_end_at_samples(plain: Trained) -> None:
    shown = cells(sheets.interpolate(plain, rows=3, columns=4, seed=5, truncation=0.8))
    drawn = plain.render(plain.codes(6, seed=5, truncation=0.8))["data"]
    torch.testing.assert_close(shown[:, 0], drawn[0::2])
    torch.testing.assert_close(shown[:, -1], drawn[1::2])
    assert not torch.allclose(shown[:, 1], shown[:, 2])


def test_between_classes_the_latent_stays_and_the_label_moves(classes: Trained) -> None:
    grid = sheets.between_classes(classes, ["emu", "cat", "dog"], rows=2, columns=5, seed=1)
    assert grid.headings == ["emu", "", "cat", "", "dog"]
    shown = cells(grid)
    codes = classes.codes(2, seed=1, label="cat")
    torch.testing.assert_close(shown[:, 2], classes.render(codes)["data"])
    half = Batch({**codes, "label": torch.tensor([[0.5, 0.5, 0.0]]).expand(2, -1)})
    torch.testing.assert_close(shown[:, 3], classes.render(half)["data"])


def test_a_sheet_by_class_has_the_same_latents_in_each_row(classes: Trained) -> None:
    grid = sheets.by_class(classes, 4, seed=2)
    assert list(grid.captions or ()) == ["cat", "dog", "emu"]
    latents = classes.codes(4, seed=2, label="cat")["code"]
    wanted = classes.render(Batch(code=latents, label=torch.full((4,), 2)))["data"]
    torch.testing.assert_close(cells(grid)[2], wanted)


def test_mixed_samples_have_the_chosen_layers_of_the_column_and_the_rest_of_the_row(styled: Trained) -> None:
    sources = styled.codes(5, seed=3)["code"]
    chosen = sheets.layer_range(styled, sources, "middle")
    shown = cells(sheets.mix_styles(styled, rows=2, columns=3, layers="middle", seed=3))
    assert shown.shape[:2] == (3, 4) and not shown[0, 0].any()
    torch.testing.assert_close(shown[1:, 0], styled.render(Batch(code=sources[:2]))["data"])
    torch.testing.assert_close(shown[0, 1:], styled.render(Batch(code=sources[2:]))["data"])
    mixed = sources[1].clone()
    mixed[chosen] = sources[4, chosen]
    torch.testing.assert_close(shown[2, 3], styled.render(Batch(code=mixed[None]))["data"][0])


def test_thirds_of_the_layers_are_all_of_them_and_none_is_empty(styled: Trained) -> None:
    for count in range(3, 20):
        codes = torch.zeros(1, count, 5)
        thirds = [sheets.layer_range(styled, codes, name) for name in sheets.LAYERS]
        assert [layer for third in thirds for layer in range(count)[third]] == list(range(count))
        assert all(range(count)[third] for third in thirds)
    assert sheets.layer_range(styled, codes, "2-4") == slice(2, 5)
    for wrong in ("finest", "4-2", "0-19", "-1"):
        with pytest.raises(UserError, match=r"say coarse, middle, fine, all, or a range within 0-18"):
            sheets.layer_range(styled, codes, wrong)


def test_what_a_generator_cannot_do_is_said_in_one_line(plain: Trained, classes: Trained) -> None:
    with pytest.raises(UserError, match="one latent for all layers, so there are no styles to mix"):
        sheets.mix_styles(plain)
    with pytest.raises(UserError, match="draws samples without labels"):
        sheets.by_class(plain, 3)
    with pytest.raises(UserError, match=r"unknown label 'cow'"):
        sheets.between_classes(classes, ["cat", "cow"])
    with pytest.raises(UserError, match="at least two classes"):
        sheets.between_classes(classes, ["cat"])


def test_a_walk_is_a_closed_way_of_each_sample_through_its_own_anchors(plain: Trained) -> None:
    walk = Walk(samples=3, anchors=4, seconds=1.0, fps=8, seed=6)
    frames = torch.stack([codes["code"] for codes in walk_codes(plain, walk)])
    drawn = plain.codes(12, seed=6)["code"].view(4, 3, -1)
    torch.testing.assert_close(frames[::2], drawn)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_a_film_holds_every_frame_and_runs_for_ever(plain: Trained, tmp_path: Path, ending: str) -> None:
    path = film_walk(plain, Walk(samples=5, anchors=2, seconds=0.5, fps=20), tmp_path / f"a.{ending}")
    with Image.open(path) as film:
        assert (film.n_frames, film.info["loop"]) == (10, 0)
        film.load()
        assert film.info["duration"] == pytest.approx(50)
        # Samples lie as on a sheet: three columns, two rows, of cells of at least 48 pixels.
        assert film.width > 3 * 48 and film.height > 2 * 48


def test_frames_of_a_colour_gif_share_their_colours(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ((200, 0, 0), (0, 0, 200)))
    write_film([red, blue, red], tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as film:
        film.seek(1)
        assert film.convert("RGB").getpixel((0, 0)) == (0, 0, 200)
        film.seek(2)
        assert film.convert("RGB").getpixel((0, 0)) == (200, 0, 0)


def test_an_mp4_without_ffmpeg_names_what_is_missing(
    plain: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"needs ffmpeg: pip install 'sparring\[video\]', or name a \.gif"):
        film_walk(plain, Walk(samples=1), tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"a film ends in \.gif"):
        film_walk(plain, Walk(samples=1), tmp_path / "a.avi")
    assert not list(tmp_path.iterdir())


def test_an_mp4_goes_to_ffmpeg_whole_with_even_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\n{ echo "$@"; wc -c; } > "$last"\n')
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    write_film([Image.new("L", (5, 4), tone) for tone in (0, 9, 99)], tmp_path / "a.mp4", fps=12)
    said = (tmp_path / "a.mp4").read_text()
    assert "-s 6x4 -r 12" in said
    assert int(said.splitlines()[1]) == 3 * 6 * 4 * 3
