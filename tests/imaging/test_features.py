from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.domains.image.data import ImageOptions, open_images
from sparring.errors import UserError
from sparring.imaging import features
from sparring.imaging.features import FEATURES, open_features
from sparring.imaging.features.inception import FILE, FidInception, average, open_inception, stretch
from sparring.imaging.features.network import NetworkFeatures, as_rgb
from sparring.imaging.features.pixels import Pixels
from sparring.metrics.weights import Unavailable

torch.set_num_threads(1)


def images(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Bytes, as they come from files, in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, height, width), generator=random) / 127.5 - 1


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without weights; returns the folder where they would be found."""
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)


# Pixels.


def test_pixels_are_the_bytes_of_the_png_in_0_to_1() -> None:
    data = images(3, 4, 5, 7)
    found = Pixels()(Batch(data=data))
    assert found["features"].shape == (3, 4 * 5 * 7)
    torch.testing.assert_close(found["features"], ((data + 1) / 2).flatten(1))
    torch.testing.assert_close(Pixels()(Batch(data=data + 0.003))["features"], found["features"])


def test_pixels_of_another_size_say_so_and_have_another_digest() -> None:
    small = Pixels((4, 6))
    flat = torch.full((2, 1, 9, 9), 0.2)
    torch.testing.assert_close(small(Batch(data=flat))["features"], torch.full((2, 24), 153 / 255))
    assert "4×6" in small.name and "4×6" in small.resizer
    assert len({Pixels().digest, small.digest, Pixels((6, 4)).digest}) == 3


def test_images_with_nan_are_refused() -> None:
    for space in (Pixels(), NetworkFeatures(torch.nn.Identity(), tiny, name="", digest="", resizer="", device="cpu")):
        with pytest.raises(UserError, match="NaN"):
            space(Batch(data=torch.full((1, 1, 4, 4), math.nan)))


# What every network sees.


def tiny(rgb: Tensor) -> dict[str, Tensor]:
    return {"features": rgb.flatten(1), "logits": rgb.mean((2, 3))}


def test_networks_see_grey_repeated_and_alpha_over_white() -> None:
    grey = images(2, 1, 3, 3)
    torch.testing.assert_close(as_rgb(grey), ((grey + 1) / 2).expand(-1, 3, -1, -1))
    colour, clear, solid = images(2, 3, 3, 3), torch.full((2, 1, 3, 3), -1.0), torch.ones(2, 1, 3, 3)
    torch.testing.assert_close(as_rgb(torch.cat([colour, solid], 1)), as_rgb(colour))
    torch.testing.assert_close(as_rgb(torch.cat([colour, clear], 1)), torch.ones(2, 3, 3, 3))
    torch.testing.assert_close(as_rgb(torch.cat([grey, clear], 1)), torch.ones(2, 3, 3, 3))


def test_networks_see_bytes_in_batches_without_gradients_or_autocast() -> None:
    layer = torch.nn.Linear(48, 4)
    counts: list[int] = []

    def embed(rgb: Tensor) -> dict[str, Tensor]:
        counts.append(len(rgb))
        return {"features": layer(rgb.flatten(1))}

    space = NetworkFeatures(layer, embed, name="n", digest="d", resizer="none", batch=2, device="cpu")
    data = images(5, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = space(Batch(data=data))["features"]
    assert counts == [2, 2, 1] and not found.requires_grad and found.dtype == torch.float32
    torch.testing.assert_close(found, layer(((data + 1) / 2).flatten(1)).detach())
    assert torch.equal(space(Batch(data=data + 0.003))["features"], found)
    assert torch.get_float32_matmul_precision() == "highest"


# Inception.


def layout() -> dict[str, tuple[int, ...]]:
    """The tensors of pt_inception-2015-12-05-6726825d.pth, written out: convolution → (out, in, height, width)."""

    def a(entry: int, pool: int) -> dict[str, tuple[int, ...]]:
        return {
            "branch1x1": (64, entry, 1, 1),
            "branch5x5_1": (48, entry, 1, 1),
            "branch5x5_2": (64, 48, 5, 5),
            "branch3x3dbl_1": (64, entry, 1, 1),
            "branch3x3dbl_2": (96, 64, 3, 3),
            "branch3x3dbl_3": (96, 96, 3, 3),
            "branch_pool": (pool, entry, 1, 1),
        }

    def c(w: int) -> dict[str, tuple[int, ...]]:
        return {
            "branch1x1": (192, 768, 1, 1),
            "branch7x7_1": (w, 768, 1, 1),
            "branch7x7_2": (w, w, 1, 7),
            "branch7x7_3": (192, w, 7, 1),
            "branch7x7dbl_1": (w, 768, 1, 1),
            "branch7x7dbl_2": (w, w, 7, 1),
            "branch7x7dbl_3": (w, w, 1, 7),
            "branch7x7dbl_4": (w, w, 7, 1),
            "branch7x7dbl_5": (192, w, 1, 7),
            "branch_pool": (192, 768, 1, 1),
        }

    def e(entry: int) -> dict[str, tuple[int, ...]]:
        return {
            "branch1x1": (320, entry, 1, 1),
            "branch3x3_1": (384, entry, 1, 1),
            "branch3x3_2a": (384, 384, 1, 3),
            "branch3x3_2b": (384, 384, 3, 1),
            "branch3x3dbl_1": (448, entry, 1, 1),
            "branch3x3dbl_2": (384, 448, 3, 3),
            "branch3x3dbl_3a": (384, 384, 1, 3),
            "branch3x3dbl_3b": (384, 384, 3, 1),
            "branch_pool": (192, entry, 1, 1),
        }

    blocks: dict[str, dict[str, tuple[int, ...]]] = {
        "Mixed_5b": a(192, 32),
        "Mixed_5c": a(256, 64),
        "Mixed_5d": a(288, 64),
        "Mixed_6a": {
            "branch3x3": (384, 288, 3, 3),
            "branch3x3dbl_1": (64, 288, 1, 1),
            "branch3x3dbl_2": (96, 64, 3, 3),
            "branch3x3dbl_3": (96, 96, 3, 3),
        },
        "Mixed_6b": c(128),
        "Mixed_6c": c(160),
        "Mixed_6d": c(160),
        "Mixed_6e": c(192),
        "Mixed_7a": {
            "branch3x3_1": (192, 768, 1, 1),
            "branch3x3_2": (320, 192, 3, 3),
            "branch7x7x3_1": (192, 768, 1, 1),
            "branch7x7x3_2": (192, 192, 1, 7),
            "branch7x7x3_3": (192, 192, 7, 1),
            "branch7x7x3_4": (192, 192, 3, 3),
        },
        "Mixed_7b": e(1280),
        "Mixed_7c": e(2048),
    }
    convolutions = {
        "Conv2d_1a_3x3": (32, 3, 3, 3),
        "Conv2d_2a_3x3": (32, 32, 3, 3),
        "Conv2d_2b_3x3": (64, 32, 3, 3),
        "Conv2d_3b_1x1": (80, 64, 1, 1),
        "Conv2d_4a_3x3": (192, 80, 3, 3),
        **{f"{block}.{name}": shape for block, names in blocks.items() for name, shape in names.items()},
    }
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, shape in convolutions.items():
        shapes[f"{name}.conv.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = shape[:1]
    return shapes


def scatter(shape: tuple[int, ...], number: int) -> Tensor:
    """Even numbers in [-1, 1] without any order, the same on every machine: a hash of their places."""
    with np.errstate(over="ignore"):
        bits = np.arange(math.prod(shape), dtype=np.uint32) + np.uint32(number * 0x9E3779B1 % 2**32)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return torch.from_numpy((bits ^ (bits >> np.uint32(16))) / 2.0**31 - 1).float().view(shape)


def inception_weights() -> dict[str, Tensor]:
    weights = {}
    for number, (name, shape) in enumerate(sorted(layout().items())):
        if len(shape) > 1:
            weights[name] = 6**0.5 * scatter(shape, number) / math.prod(shape[1:]) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            weights[name] = 1 + 0.2 * scatter(shape, number)
        else:
            weights[name] = 0.1 * scatter(shape, number)
    return weights


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / FILE
    torch.save(inception_weights(), path)
    return path


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> NetworkFeatures:
    return open_inception(inception_file, device="cpu", batch=2)


def test_inception_has_exactly_the_files_tensors() -> None:
    with torch.device("meta"):
        state = FidInception().state_dict()
    own = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert own == layout()
    assert sum(math.prod(shape) for name, shape in layout().items() if "running" not in name) == 23_850_960


def test_inception_gives_the_figures_of_the_reference_on_equal_weights(inception: NetworkFeatures) -> None:
    # From torch-fidelity 0.4.0's network with these weights, on this image: the published FID's own arithmetic.
    data = scatter((1, 3, 299, 299), 0)
    found = inception(Batch(data=data))
    assert found["features"].shape == (1, 2048) and found["logits"].shape == (1, 1008)
    torch.testing.assert_close(found["features"][0, PLACES], torch.tensor(FEATURES_THERE), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["logits"][0, :3], torch.tensor(LOGITS_THERE), rtol=1e-3, atol=1e-4)


def test_inception_is_deterministic_and_a_sample_does_not_feel_its_batch(
    inception: NetworkFeatures, inception_file: Path
) -> None:
    data = images(3, 1, 20, 33)
    whole = inception(Batch(data=data))
    assert float(whole["features"].std(0).mean()) > 1e-3
    alone = inception(Batch(data=data[2:]))
    for name in ("features", "logits"):
        torch.testing.assert_close(alone[name], whole[name][2:], rtol=1e-4, atol=1e-5)
    again = open_inception(inception_file, device="cpu")
    assert (again.digest, again.name) == (inception.digest, inception.name)
    assert torch.equal(inception(Batch(data=data[2:]))["features"], alone["features"])


def test_inceptions_pools_leave_the_padding_out() -> None:
    torch.testing.assert_close(average(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert float(average(x)[0, 0, 0, 0]) == (0 + 1 + 3 + 4) / 4


def test_inceptions_resizer_is_the_aliasing_one() -> None:
    stripes = (torch.arange(1196) % 4 == 0).float().expand(1, 3, 1196, 1196)
    # Four pixels to one: a mean would see stripes as even grey of a quarter; the reference sees two of the four.
    assert stretch(stripes).unique().numel() == 1 and float(stretch(stripes).max()) == 0
    assert stretch(torch.rand(1, 3, 299, 299)).shape == (1, 3, 299, 299)


def test_inception_refuses_a_file_that_lacks_tensors_in_one_line(tmp_path: Path) -> None:
    weights = inception_weights()
    del weights["Mixed_7c.branch1x1.bn.running_var"]
    path = tmp_path / "part.pth"
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"Mixed_7c\.branch1x1\.bn\.running_var is missing") as error:
        open_inception(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_inception_without_weights_says_what_to_fetch_and_where_to_put_it(bare: Path) -> None:
    with pytest.raises(
        Unavailable, match=rf"inception needs pretrained weights: put https://\S+/{FILE} into "
    ) as error:
        open_features("inception")
    assert str(error.value).endswith(str(bare))


# Transformers.


def vit_weights(width: int = 64, depth: int = 2, side: int = 16) -> dict[str, Tensor]:
    """A small DINOv2 under the names of the published files, for images of `side` patches."""
    random = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, side**2 + 1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for block in range(depth):
        parts: dict[str, tuple[int, ...]] = {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in parts.items()}
    return {name: torch.randn(shape, generator=random) / shape[-1] ** 0.5 for name, shape in shapes.items()}


def vit(weights: dict[str, Tensor], rgb: Tensor) -> Tensor:
    """The class token after the last norm (Dosovitskiy et al. 2021; layer scale as in Touvron et al. 2021)."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (rgb - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    x = F.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], 14).flatten(2).mT
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], 1) + weights["pos_embed"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    for block in (f"blocks.{number}" for number in range(2)):
        query, key, value = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, -1)
        mixed = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value  # a single head of width 64
        x = x + weights[f"{block}.ls1.gamma"] * linear(mixed, f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + weights[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


def test_dinov2_from_a_published_file_is_the_transformer_of_the_paper(transformers: Any, tmp_path: Path) -> None:
    path = tmp_path / "dinov2_vitt14_pretrain.pth"
    torch.save(vit_weights(), path)
    space = open_features(str(path), device="cpu")
    data = images(3, 3, 224, 224)
    found = space(Batch(data=data))["features"]
    torch.testing.assert_close(found, vit(vit_weights(), as_rgb(data)), rtol=1e-3, atol=1e-4)
    assert space.name == "dinov2 (dinov2_vitt14_pretrain, 64)" and "224" in space.resizer


def test_dinov2_takes_small_grey_images_and_weights_of_another_resolution(transformers: Any, tmp_path: Path) -> None:
    torch.save(vit_weights(side=5), tmp_path / "small.pth")
    found = open_features(str(tmp_path / "small.pth"), device="cpu")(Batch(data=images(2, 1, 28, 30)))["features"]
    assert found.shape == (2, 64) and float((found[0] - found[1]).abs().max()) > 1e-3


def test_dinov2_folder_is_found_and_equals_its_file(transformers: Any, bare: Path, tmp_path: Path) -> None:
    from sparring.imaging.features.dinov2 import _library_names

    torch.save(vit_weights(), tmp_path / "file.pth")
    config = transformers.Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=224, patch_size=14
    )
    model = transformers.Dinov2Model.from_pretrained(
        None, config=config, state_dict=_library_names(vit_weights(), tmp_path)
    )
    model.save_pretrained(bare / "dinov2-small")
    data = Batch(data=images(1, 3, 224, 224))
    whole = open_features("dinov2", device="cpu")
    assert whole.name == "dinov2 (dinov2-small, 64)"
    for path in (tmp_path / "file.pth", bare / "dinov2-small" / "model.safetensors"):
        torch.testing.assert_close(open_features(str(path), device="cpu")(data)["features"], whole(data)["features"])


def test_dinov2_files_that_do_not_fit_are_refused_in_one_line(transformers: Any, tmp_path: Path) -> None:
    for name, change, complaint in (
        ("registers", {"register_tokens": torch.zeros(1, 4, 64)}, "registers is another space"),
        ("more", {"head.weight": torch.zeros(3)}, "head.weight does not belong there"),
        ("less", {"blocks.1.norm2.bias": None}, "norm2.bias is missing"),
        ("broken", {"patch_embed.proj.weight": None}, "not the weights of a DINOv2"),
    ):
        weights = {key: value for key, value in {**vit_weights(), **change}.items() if value is not None}
        torch.save(weights, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=complaint) as error:
            open_features(str(tmp_path / f"{name}.pth"))
        assert "\n" not in str(error.value)


def test_clip_is_the_librarys_image_side_whether_the_text_side_is_there_or_not(
    transformers: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": 24,
    }
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    both = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=vision, text_config={**text, "vocab_size": 50}, projection_dim=24)
    ).eval()
    both.save_pretrained(tmp_path / "both")
    one = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "both")
    one.save_pretrained(tmp_path / "one")
    data = images(2, 3, 28, 28)
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    seen = (as_rgb(data) - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(deviation).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = one.eval()(pixel_values=seen).image_embeds
    for name in ("both", "one"):
        space = open_features(str(tmp_path / name), device="cpu")
        torch.testing.assert_close(space(Batch(data=data))["features"], expected, rtol=1e-4, atol=1e-5)
        assert space.name == f"clip ({name}, 24)" and "28×28" in space.resizer


@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_missing_library_names_the_extra_in_one_line(bare: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without_library(monkeypatch)
    with pytest.raises(Unavailable, match=rf"{name} needs the package 'transformers'.*sparring\[features\]") as error:
        open_features(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_missing_transformer_weights_say_what_to_fetch_and_where_to_put_it(
    transformers: Any, bare: Path, name: str
) -> None:
    with pytest.raises(Unavailable, match=f"{name} needs pretrained weights: put .*https://") as error:
        open_features(name)
    assert str(bare) in str(error.value) and "\n" not in str(error.value)


# Choosing.


def test_a_path_is_known_by_what_it_holds(inception_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "renamed.pth"
    path.hardlink_to(inception_file)
    assert open_features(str(path), device="cpu").name == "inception (renamed, 2048)"


def test_paths_that_hold_no_features_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    torch.save({"vision_model.pre_layrnorm.weight": torch.zeros(1)}, tmp_path / "clip.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{")
    for name, complaint in (
        ("vgg.pth", "no weights of a feature space"),
        ("clip.pth", "config.json beside them"),
        ("empty", "holds no model"),
        ("bert", "type 'bert'"),
        ("torn", "cannot be read"),
    ):
        with pytest.raises(UserError, match=complaint) as error:
            open_features(str(tmp_path / name))
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)


def test_unknown_features_name_the_nearest_and_all() -> None:
    with pytest.raises(UserError, match=r"'incepton' \(did you mean 'inception'\?\); there are auto, pixels,") as error:
        open_features("incepton")
    assert all(name in str(error.value) for name in FEATURES)


def test_auto_takes_the_best_that_is_here_and_says_which(
    bare: Path, inception_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_library(monkeypatch)
    assert open_features("auto").name == "pixels"
    learnt = Pixels((2, 2))
    monkeypatch.setitem(features.FEATURES, "classifier", lambda wish: learnt)
    assert open_features("auto") is learnt
    (bare / FILE).hardlink_to(inception_file)
    assert open_features("auto", device="cpu").name.startswith("inception (pt_inception-2015-12-05")
    monkeypatch.setitem(features.FEATURES, "dinov2", lambda wish: learnt)
    assert open_features("auto") is learnt


def test_auto_does_not_pass_over_weights_that_are_here_and_broken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    (bare / FILE).write_bytes(b"a page that says 404")
    with pytest.raises(UserError, match="fetch it again"):
        open_features("auto")


def test_auto_learns_from_the_data_where_nothing_is_pretrained(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    data = open_images(ImageOptions(limit=40))  # too few to train on: it is there at once
    space = open_features("auto", data, device="cpu")
    assert space.name.startswith(("classifier", "random"))
    assert space.digest == open_features("classifier", data, device="cpu").digest
    assert len(space(data.batch(torch.arange(5), augment=False))["features"]) == 5


def test_classifier_features_need_the_data() -> None:
    with pytest.raises(Unavailable, match="learnt from the real images"):
        open_features("classifier")


# Where, and what torch-fidelity 0.4.0 says, of the weights and the image above.
PLACES = [268, 410, 1026, 1435, 1774, 2025]
FEATURES_THERE = [4.38295, 3.51938, 4.19549, 3.49102, 4.01337, 5.52556]
LOGITS_THERE = [0.6359, 2.84261, 0.51228]
