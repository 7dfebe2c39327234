from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparring.errors import UserError
from sparring.metrics.weights import Unavailable, digest_tensors, fill, find_weights, read_tensors

torch.set_num_threads(1)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """The two folders where weights are looked for, in order."""
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folders = tmp_path / "cache" / "weights", tmp_path / "hub" / "checkpoints"
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def network() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=random) if value.is_floating_point() else torch.tensor(3)
        for name, value in network().state_dict().items()
    }


def test_own_folder_comes_before_torch_hubs_and_any_name_there_will_do(places: tuple[Path, Path]) -> None:
    own, hub = places
    (hub / "a.pth").touch()
    assert find_weights(["a.pth", "b.pth"], purpose="x", url="u") == hub / "a.pth"
    (own / "b.pth").touch()
    assert find_weights(["a.pth", "b.pth"], purpose="x", url="u") == own / "b.pth"


def test_missing_weights_are_asked_for_in_one_line_with_place_and_address(places: tuple[Path, Path]) -> None:
    with pytest.raises(Unavailable) as error:
        find_weights(["a.pth"], purpose="scoring", url="https://example.org/a.pth")
    assert str(error.value) == f"scoring needs pretrained weights: put https://example.org/a.pth into {places[0]}"


def test_weights_are_fetched_whole_only_when_asked_and_only_the_right_ones(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    content = b"weights"
    digits = hashlib.sha256(content).hexdigest()[:8]
    for name, right in ((f"net-{digits}.pth", True), ("net-00000000.pth", False), ("net.pth", True)):
        source = tmp_path / "remote" / name
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(content)
        with pytest.raises(Unavailable):
            find_weights([name], purpose="x", url=source.as_uri())
        if right:
            assert find_weights([name], purpose="x", url=source.as_uri(), download=True).read_bytes() == content
        else:
            with pytest.raises(Unavailable, match=r"could not be fetched .* by hand"):
                find_weights([name], purpose="x", url=source.as_uri(), download=True)
            assert not (places[0] / name).exists()


def test_both_kinds_of_file_are_read_alike_and_have_one_digest(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "a.safetensors")
    torch.save(tensors(), tmp_path / "a.pth")
    one, other = read_tensors(tmp_path / "a.safetensors"), read_tensors(tmp_path / "a.pth")
    assert digest_tensors(one) == digest_tensors(other)
    assert all(torch.equal(one[name], other[name]) for name in tensors())


def test_digest_changes_with_a_name_a_shape_a_type_and_a_value() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3).int()},
        {"a": torch.eye(2, 3)},
    ]
    assert len({digest_tensors(each) for each in [base, *others]}) == 5


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("sprung",)


def test_files_that_would_run_code_and_broken_ones_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    torch.save(tensors(), tmp_path / "half.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "half.pth").read_bytes()[:700])
    (tmp_path / "text.pth").write_text("404: not found")
    (tmp_path / "text.safetensors").write_text("404: not found")
    (tmp_path / "empty.pth").touch()
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "number.pth")
    files = ("trap.pth", "half.pth", "text.pth", "text.safetensors", "empty.pth", "list.pth", "number.pth", "none.pth")
    for name in files:
        with pytest.raises(UserError) as error:
            read_tensors(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "sprung").exists()


def test_filled_network_holds_the_files_weights_in_eval_mode_and_float32() -> None:
    filled = network()
    given = {name: value.half() if value.is_floating_point() else value for name, value in tensors().items()}
    del given["1.num_batches_tracked"]
    fill(filled, given, path=Path("a.pth"), what="it")
    assert not filled.training and not any(value.requires_grad for value in filled.parameters())
    for name, value in filled.state_dict().items():
        assert value.device.type == "cpu"
        if value.is_floating_point():
            assert value.dtype == torch.float32 and torch.equal(value, given[name].float())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"0.bias": None}, "0.bias is missing"),
        ({"2.bias": torch.zeros(2)}, "2.bias does not belong there"),
        ({"0.bias": torch.zeros(3)}, r"0.bias is \(3,\) and not \(2,\)"),
        ({"0.bias": None, "2.bias": torch.zeros(2)}, "0.bias is missing, and 1 more"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change: dict[str, torch.Tensor | None], complaint: str) -> None:
    given = {name: value for name, value in {**tensors(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=f"a.pth: not the weights of it: {complaint}"):
        fill(network(), given, path=Path("a.pth"), what="it")
