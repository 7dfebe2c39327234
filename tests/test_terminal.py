"""What the shell prints, and which process prints it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sparring.terminal import show_training


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_one_process_of_a_training_speaks(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = SimpleNamespace(plain=lambda: {"steps": 3})
    monkeypatch.setenv(rank, "1")
    show_training(result, as_json=True)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(rank, "0")
    show_training(result, as_json=True)
    assert '"steps": 3' in capsys.readouterr().out
