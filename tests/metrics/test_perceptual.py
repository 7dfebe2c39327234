from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.metrics.perceptual import Lpips, open_lpips
from sparring.metrics.weights import Unavailable

torch.set_num_threads(1)

# Torchvision's layouts, written out: number of the convolution in `features` → (out, in, kernel).
ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = {
    0: (64, 3, 3),
    2: (64, 64, 3),
    5: (128, 64, 3),
    7: (128, 128, 3),
    10: (256, 128, 3),
    12: (256, 256, 3),
    14: (256, 256, 3),
    17: (512, 256, 3),
    19: (512, 512, 3),
    21: (512, 512, 3),
    24: (512, 512, 3),
    26: (512, 512, 3),
    28: (512, 512, 3),
}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def random_weights(layout: dict[int, tuple[int, int, int]]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    weights = {}
    for number, (out, channels, kernel) in layout.items():
        scale = (2 / (channels * kernel**2)) ** 0.5
        weights[f"features.{number}.weight"] = scale * torch.randn(out, channels, kernel, kernel, generator=random)
        weights[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=random)
    weights["classifier.6.weight"] = torch.zeros(10, 10)
    return weights


def random_heads(tower: str) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        f"lin{number}.model.1.weight": torch.rand(1, channels, 1, 1, generator=random)
        for number, channels in enumerate(CHANNELS[tower])
    }


@pytest.fixture(scope="module", params=["alex", "vgg"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(random_weights(ALEX if request.param == "alex" else VGG), folder / "tower.pth")
    torch.save(random_heads(request.param), folder / "heads.pth")
    return request.param, folder / "tower.pth", folder / "heads.pth"


@pytest.fixture(scope="module")
def lpips(files: tuple[str, Path, Path]) -> Lpips:
    tower, weights, heads = files
    return open_lpips(tower, weights=weights, heads=heads)  # type: ignore[arg-type]


def images(seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, 40, 48, generator=torch.Generator().manual_seed(seed))


def reference(tower: str, a: Tensor, b: Tensor) -> Tensor:
    """The definition, step by step: Zhang et al. 2018, eq. 1."""
    layout, weights = (ALEX, random_weights(ALEX)) if tower == "alex" else (VGG, random_weights(VGG))
    pools = {3: (3, 2), 6: (3, 2)} if tower == "alex" else {5: (2, 2), 10: (2, 2), 17: (2, 2), 24: (2, 2)}
    taps = (0, 3, 6, 8, 10) if tower == "alex" else (2, 7, 14, 21, 28)
    heads = list(random_heads(tower).values())
    total = torch.zeros(len(a))
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((2 * side - 1) - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1) for side in (a, b))
    for number, (_, _, kernel) in layout.items():
        if number in pools:
            x, y = (F.max_pool2d(side, *pools[number]) for side in (x, y))
        stride = 4 if kernel == 11 else 1
        padding = {11: 2, 5: 2, 3: 1}[kernel]
        weight, bias = weights[f"features.{number}.weight"], weights[f"features.{number}.bias"]
        x, y = (F.conv2d(side, weight, bias, stride, padding).relu() for side in (x, y))
        if number in taps:
            units = [side / (side.square().sum(1, keepdim=True).sqrt() + 1e-10) for side in (x, y)]
            total += ((units[0] - units[1]).square() * heads[taps.index(number)]).sum(1).mean((1, 2))
    return total


def test_distance_equals_the_definition(files: tuple[str, Path, Path], lpips: Lpips) -> None:
    a, b = images(0), images(1)
    torch.testing.assert_close(lpips(a, b), reference(files[0], a, b), rtol=1e-4, atol=1e-6)


def test_distance_is_nought_for_equal_images_and_symmetric(lpips: Lpips) -> None:
    a, b = images(0), images(1)
    assert lpips(a, a).tolist() == [0, 0]
    torch.testing.assert_close(lpips(a, b), lpips(b, a))


def test_distance_grows_with_noise(lpips: Lpips) -> None:
    a, noise = images(0), images(1) - 0.5
    distances = [float(lpips(a, a + strength * noise).mean()) for strength in (0.01, 0.03, 0.1, 0.3)]
    assert distances == sorted(distances) and distances[0] > 0


def test_small_changes_count_with_their_square(lpips: Lpips) -> None:
    a, noise = images(0), images(1) - 0.5
    small, double = (float(lpips(a, a + strength * noise).mean()) for strength in (0.01, 0.02))
    assert double / small == pytest.approx(4, rel=0.15)


def test_grey_images_are_repeated(lpips: Lpips) -> None:
    a, b = images(0)[:, :1], images(1)[:, :1]
    torch.testing.assert_close(lpips(a, b), lpips(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)))


def test_digest_is_of_the_weights_and_the_name_says_the_file(
    files: tuple[str, Path, Path], lpips: Lpips, tmp_path: Path
) -> None:
    tower, weights, _ = files
    other = tmp_path / "other.pth"
    torch.save({name: 2 * value for name, value in random_heads(tower).items()}, other)
    changed = open_lpips(tower, weights=weights, heads=other)  # type: ignore[arg-type]
    assert changed.digest != lpips.digest
    assert lpips.name == f"lpips ({tower}, tower)"


def test_published_heads_are_at_hand_and_none_is_negative(files: tuple[str, Path, Path]) -> None:
    lpips = open_lpips(files[0], weights=files[1])  # type: ignore[arg-type]
    assert all(float(weight.min()) >= 0 for weight in lpips.heads.state_dict().values())
    assert float(lpips(images(0), images(1)).min()) > 0


def test_missing_weights_are_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(
        Unavailable, match=r"LPIPS \(vgg\) needs pretrained weights: put https\S+vgg16-397923af\.pth into"
    ) as error:
        open_lpips("vgg")
    assert "\n" not in str(error.value) and str(tmp_path / "weights") in str(error.value)


def test_the_weights_of_another_tower_are_refused(files: tuple[str, Path, Path]) -> None:
    other = "vgg" if files[0] == "alex" else "alex"
    with pytest.raises(UserError, match="not the weights of the tower"):
        open_lpips(other, weights=files[1])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not the weights of the heads"):
        open_lpips(files[0], weights=files[1], heads=files[1])  # type: ignore[arg-type]


def test_images_too_small_for_the_tower_are_refused(lpips: Lpips) -> None:
    with pytest.raises(ValueError, match="pixels a side"):
        lpips(images(0)[..., :12], images(1)[..., :12])
    with pytest.raises(ValueError, match="pairs of"):
        lpips(images(0), images(1)[:1])
