"""`sparring translate`: sizes and names are kept, what cannot be read is named, and the same seed makes the same."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sparring
from shell import sparring as shell
from sparring.core.game import Batch, DataSpec
from sparring.data.source import BrokenSample
from sparring.domains.translation.inputs import Holes, LabelMaps
from sparring.errors import UserError
from sparring.trained import load

torch.set_num_threads(1)

CPU = ("--device", "cpu")
CITY = [[30, 30, 30], [200, 40, 40], [40, 200, 40]]
needs_ffmpeg = pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs imageio-ffmpeg")


def picture(width: int, height: int, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Random, but smooth, as photographs are."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    return Image.fromarray(values).convert(mode).resize((width, height), Image.Resampling.BICUBIC)


def label_map(values: list[int], size: tuple[int, int] = (20, 17), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), size)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with pictures of odd sizes and several formats, in sub-folders."""
    root = tmp_path / "photos"
    for name, size in (
        ("one.png", (37, 23)),
        ("day/two.jpg", (16, 16)),
        ("day/night/three.webp", (50, 9)),
        ("four.tif", (5, 64)),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(*size).save(root / name)
    return root


def test_sizes_and_names_are_kept(plain: Path, photos: Path, tmp_path: Path) -> None:
    said = shell("translate", plain, photos, "--out", tmp_path / "made", "--json", *CPU).json
    assert said["broken"] == [] and said["step"] == 20 and said["tiled"] == 0
    made = {path.relative_to(tmp_path / "made").as_posix() for path in map(Path, said["files"])}
    assert made == {"one.png", "day/two.jpg", "day/night/three.webp", "four.tif"}
    for name in made:
        assert pixels(tmp_path / "made" / name).shape == pixels(photos / name).shape
        with Image.open(tmp_path / "made" / name) as new, Image.open(photos / name) as old:
            assert new.format == old.format


def test_what_is_written_is_what_the_game_makes_of_the_picture(plain: Path, photos: Path, tmp_path: Path) -> None:
    sparring.translate(plain, [photos / "one.png"], out=tmp_path / "made", device="cpu")
    source = torch.from_numpy(pixels(photos / "one.png").copy()).permute(2, 0, 1)[None] / 127.5 - 1
    expected = load(plain, device="cpu").translate(Batch(source=source))["data"][0]
    written = torch.from_numpy(pixels(tmp_path / "made" / "one.png").copy()).permute(2, 0, 1) / 127.5 - 1
    assert (written - expected).abs().max() < 1.01 / 255 and expected.std() > 0.05


def test_grey_and_transparent_pictures_get_the_channels_of_the_training(plain: Path, tmp_path: Path) -> None:
    picture(20, 20, mode="L").save(tmp_path / "grey.png")
    picture(20, 20, mode="RGBA").save(tmp_path / "clear.png")
    sparring.translate(plain, [tmp_path / "grey.png", tmp_path / "clear.png"], out=tmp_path / "made", device="cpu")
    assert pixels(tmp_path / "made" / "grey.png").shape == pixels(tmp_path / "made" / "clear.png").shape == (20, 20, 3)


def test_files_of_one_name_do_not_replace_each_other(plain: Path, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 1)):
        (tmp_path / folder).mkdir()
        picture(16, 16, seed=seed).save(tmp_path / folder / "x.png")
    result = sparring.translate(plain, [tmp_path / "a", tmp_path / "b" / "x.png"], out=tmp_path / "made", device="cpu")
    assert [Path(file).name for file in result.files] == ["x.png", "x-2.png"]
    assert not np.array_equal(pixels(tmp_path / "made" / "x.png"), pixels(tmp_path / "made" / "x-2.png"))


def test_archives_are_read_as_folders_are(plain: Path, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in photos.rglob("*.*"):
            archive.write(file, file.relative_to(photos))
    for source, out in ((photos, "plain"), (tmp_path / "photos.zip", "zipped")):
        sparring.translate(plain, [source], out=tmp_path / out, device="cpu")
    files = sorted(path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*.*"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "zipped" / file).read_bytes()


# Seeds


def test_the_same_seed_makes_the_same_and_another_makes_another(noisy: Path, photos: Path, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        sparring.translate(noisy, [photos / "one.png"], out=tmp_path / name, seed=seed, device="cpu")
        made[name] = pixels(tmp_path / name / "one.png")
    assert np.array_equal(made["first"], made["again"])
    assert not np.array_equal(made["first"], made["other"])


def test_several_outputs_have_seeds_from_the_first_on(noisy: Path, photos: Path, tmp_path: Path) -> None:
    result = sparring.translate(noisy, [photos / "one.png"], out=tmp_path / "made", seed=3, count=2, device="cpu")
    assert [Path(file).name for file in result.files] == ["one-1.png", "one-2.png"]
    sparring.translate(noisy, [photos / "one.png"], out=tmp_path / "made", seed=4, device="cpu")
    assert np.array_equal(pixels(tmp_path / "made" / "one-2.png"), pixels(tmp_path / "made" / "one.png"))
    assert not np.array_equal(pixels(tmp_path / "made" / "one-1.png"), pixels(tmp_path / "made" / "one.png"))


# Label maps


def test_maps_by_number_palette_and_colour_are_the_same(mapped: Path, tmp_path: Path) -> None:
    values = label_map([0, 1, 7])
    numbers = {0: 0, 1: 1, 7: 2}
    colours = np.array(CITY, np.uint8)[np.vectorize(numbers.get)(values)]
    Image.fromarray(values).save(tmp_path / "number.png")
    indexed = Image.fromarray(values)
    entries = {value: CITY[number] for value, number in numbers.items()}
    indexed.putpalette([part for value in range(8) for part in entries.get(value, [0, 0, 0])])
    indexed.save(tmp_path / "palette.png")
    Image.fromarray(colours).save(tmp_path / "colour.png")
    names = ["number.png", "palette.png", "colour.png"]
    sparring.translate(mapped, [tmp_path / name for name in names], out=tmp_path / "made", device="cpu")
    made = [pixels(tmp_path / "made" / name) for name in names]
    assert made[0].shape == (20, 17, 3) and made[0].std() > 1
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


def test_an_unknown_class_is_the_users_error_and_is_named(mapped: Path, tmp_path: Path) -> None:
    Image.fromarray(label_map([0, 7, 9])).save(tmp_path / "strange.png")
    error = shell("translate", mapped, tmp_path / "strange.png", "--out", tmp_path / "made", *CPU).error
    assert "strange.png holds the class 9, which the training data has not: it has 0, 1, 7" in error
    picture(20, 17).save(tmp_path / "photo.png")
    error = shell("translate", mapped, tmp_path / "photo.png", "--out", tmp_path / "made", *CPU).error
    assert "which is no class's in the training data's palette" in error
    assert not (tmp_path / "made").exists()


def test_what_is_of_no_class_is_in_no_channel() -> None:
    facts = {"kind": "labels", "channels": 3, "values": [0, 7], "void": 255, "palette": CITY[:2], "edges": True}
    maps = LabelMaps(facts)
    stored = np.stack([np.array([[0, 7, 255]]), np.array([[1, 1, 2]])], axis=2).astype(np.uint16)
    made = maps.encode(stored)
    assert made["source"][0].tolist() == [[[1, 0, 0]], [[0, 1, 0]], [[0, 1, 1]]]
    assert made["instance"].tolist() == [[[[1, 1, 2]]]]


# Holes


def test_a_hole_is_what_is_transparent_or_bright_in_the_mask(tmp_path: Path) -> None:
    image = picture(8, 6, mode="RGBA")
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[2:4, 1:5] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "clear.png")
    image.convert("RGB").save(tmp_path / "whole.png")
    Image.fromarray(255 - alpha).save(tmp_path / "mask.png")
    from sparring.domains.translation.inputs import Beside

    holes = Holes(3)
    one = holes.encode(holes.read((tmp_path / "clear.png").read_bytes(), "clear", Beside()))["source"]
    beside = Beside(mask=(tmp_path / "mask.png").read_bytes())
    other = holes.encode(holes.read((tmp_path / "whole.png").read_bytes(), "whole", beside))["source"]
    assert one.shape == (1, 4, 6, 8) and torch.equal(one[:, 3], torch.from_numpy(alpha == 0)[None].float())
    assert torch.equal(one, other)
    assert not one[:, :3, 2:4, 1:5].any()
    with pytest.raises(BrokenSample, match="give --mask"):
        holes.read((tmp_path / "whole.png").read_bytes(), "whole", Beside())


# Styles


def test_a_style_gives_outputs_its_look(make_run: Callable[..., Path], maps: DataSpec, tmp_path: Path) -> None:
    run = make_run(
        "spade",
        "model.generator={name: spade, width: 2, code: 4}",
        "model.discriminator={name: patch, width: 2, field: 16}",
        spec=maps,
    )
    Image.fromarray(label_map([0, 1, 7], (40, 40))).save(tmp_path / "map.png")
    for name, seed in (("one", 0), ("two", 1)):
        picture(50, 30, seed=seed).save(tmp_path / f"{name}.jpg")
    made = {}
    for name, style, seed in (("a", "one", 0), ("b", "one", 5), ("c", "two", 0)):
        sparring.translate(
            run, [tmp_path / "map.png"], out=tmp_path / name, style=tmp_path / f"{style}.jpg", seed=seed, device="cpu"
        )
        made[name] = pixels(tmp_path / name / "map.png")
    assert np.array_equal(made["a"], made["b"]), "a given style leaves nothing to draw"
    assert not np.array_equal(made["a"], made["c"])


# Errors


def test_a_broken_file_is_named_and_the_others_are_translated(plain: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "one.png").read_bytes()[:60])
    ended = shell("translate", plain, photos, "--out", tmp_path / "made", *CPU)
    assert ended.code == 0
    first, last = ended.err.splitlines()
    assert first.startswith("passed over: broken.png ")
    assert last == f"4 translated, 1 passed over: {tmp_path / 'made'}"
    assert not (tmp_path / "made" / "broken.png").exists()


def test_where_nothing_can_be_read_the_exit_code_is_2(plain: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"nothing")
    error = shell("translate", plain, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "made", *CPU).error
    assert "a.png not an image" in error and "nor could 1 more: nothing was written" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("missing.png", "missing.png: no such file or folder"),
        ("empty", "empty: found no images and no films (looked for .png"),
        ("one.png --direction b2a", "has learnt one direction, a2b: train with data.direction=b2a"),
        ("one.png --direction up", "--direction 'up': there are a2b and b2a"),
        ("one.png --label cat", "draws samples without labels"),
        ("one.png --tile 30", "multiples of 4: say 28 or 32"),
        ("one.png --overlap 30", "say how large these are with --tile"),
        ("one.png --tile 32 --overlap 17", "tiles of 32 overlap by 0 to 16 pixels"),
        ("one.png --mask one.png", "the game fills no holes: leave it out"),
        ("one.png --style one.png", "takes no style from a picture: leave it out"),
        ("one.png --instance one.png", "was trained without maps of instances: leave it out"),
        ("one.png --precision 8", "unknown precision '8'"),
        ("one.png --out .", "would be written over what it is made from"),
    ],
)
def test_what_the_user_can_mend_is_said_in_one_line(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(16, 16).save("one.png")
    Path("empty").mkdir()
    out = () if "--out" in words else ("--out", "made")
    assert message in shell("translate", plain, *words.split(), *out, *CPU).error
    assert not Path("made").exists()


def test_runs_that_draw_and_runs_that_translate_name_each_others_verb(
    plain: Path, make_run: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    assert (
        "`sparring translate` does that for files" in shell("generate", plain, "--out", tmp_path / "made", *CPU).error
    )
    drawing = make_run(
        "dcgan", "model.generator.width=4", "model.discriminator.width=4", spec=DataSpec((1, 8, 8), (), 8)
    )
    error = shell("translate", drawing, photos, "--out", tmp_path / "made", *CPU).error
    assert "makes samples from noise: `sparring generate` draws them" in error


# Large pictures


def test_tiles_make_of_a_picture_what_it_is_whole(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("pix2pix", "model.generator={name: resnet, width: 4, blocks: 1, norm: none}")
    picture(301, 155).save(tmp_path / "large.png")
    made: dict[str, Any] = {}
    for name, sizes in (("whole", {"tile": 0}), ("tiled", {"tile": 160, "overlap": 80})):
        result = sparring.translate(run, [tmp_path / "large.png"], out=tmp_path / name, device="cpu", **sizes)
        assert result.facts["tiled"] == (name == "tiled")
        made[name] = pixels(tmp_path / name / "large.png").astype(int)
    assert made["tiled"].shape == (155, 301, 3) and made["whole"].std() > 10
    assert np.abs(made["tiled"] - made["whole"]).max() <= 1


def test_a_picture_that_does_not_fit_is_cut_without_being_told(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparring.domains.translation import tiles

    picture(203, 155).save(tmp_path / "large.png")
    assert sparring.translate(plain, [tmp_path / "large.png"], out=tmp_path / "a", device="cpu").facts["tiled"] == 0
    monkeypatch.setattr(tiles, "BUDGET", 2**20)
    assert sparring.translate(plain, [tmp_path / "large.png"], out=tmp_path / "b", device="cpu").facts["tiled"] == 1


# Films


def test_a_gif_keeps_its_frames_and_their_times(plain: Path, tmp_path: Path) -> None:
    frames = [picture(30, 21, seed=seed) for seed in range(4)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=[50, 200, 80, 120], loop=3)
    sparring.translate(plain, [tmp_path / "film.gif"], out=tmp_path / "made", device="cpu")
    with Image.open(tmp_path / "made" / "film.gif") as film:
        assert (film.size, film.n_frames, film.info["loop"]) == ((30, 21), 4, 3)  # type: ignore[attr-defined]
        times = []
        for number in range(4):
            film.seek(number)
            times.append(film.info["duration"])
    assert times == [50, 200, 80, 120]


def test_a_gif_that_does_not_move_becomes_a_png(plain: Path, tmp_path: Path) -> None:
    picture(30, 21).save(tmp_path / "still.gif")
    result = sparring.translate(plain, [tmp_path / "still.gif"], out=tmp_path / "made", device="cpu")
    assert [Path(file).name for file in result.files] == ["still.png"]


@needs_ffmpeg
@pytest.mark.parametrize(("size", "ending"), [((30, 20), ".mp4"), ((31, 21), ".mp4"), ((32, 16), ".avi")])
def test_a_film_keeps_its_size_its_pace_and_its_length(
    plain: Path, tmp_path: Path, size: tuple[int, int], ending: str
) -> None:
    import imageio_ffmpeg

    source = tmp_path / f"film{ending}"
    writer = imageio_ffmpeg.write_frames(str(source), size, fps=12, macro_block_size=1, pix_fmt_out="yuv444p")
    writer.send(None)
    frames = [picture(*size, seed=seed) for seed in range(7)]
    for frame in frames:
        writer.send(np.asarray(frame))
    writer.close()
    sparring.translate(plain, [source], out=tmp_path / "made", device="cpu")
    assert [path.name for path in (tmp_path / "made").iterdir()] == [source.name], "no temporary file stays"

    reader = imageio_ffmpeg.read_frames(str(tmp_path / "made" / source.name))
    facts = next(reader)
    made = [np.frombuffer(each, np.uint8).reshape(size[1], size[0], 3).astype(float) for each in reader]
    assert tuple(facts["size"]) == size and facts["fps"] == 12 and len(made) == 7
    seen = [*imageio_ffmpeg.read_frames(str(source))][4]  # after the facts, what ffmpeg reads of frame 3
    Image.frombytes("RGB", size, seen).save(tmp_path / "frame.png")
    sparring.translate(plain, [tmp_path / "frame.png"], out=tmp_path / "still", device="cpu")
    still = pixels(tmp_path / "still" / "frame.png").astype(float)
    # Colours lose more than brightness does where they are stored at half the resolution.
    brightness = np.array([0.299, 0.587, 0.114])
    assert np.corrcoef((made[3] @ brightness).flat, (still @ brightness).flat)[0, 1] > 0.98
    assert np.corrcoef((made[2] @ brightness).flat, (still @ brightness).flat)[0, 1] < 0.9


@needs_ffmpeg
def test_a_film_that_cannot_be_read_is_named(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"film.mp4 is no film that ffmpeg can read"):
        sparring.translate(plain, [tmp_path / "film.mp4"], out=tmp_path / "made", device="cpu")
    assert not list((tmp_path / "made").iterdir()) if (tmp_path / "made").exists() else True
