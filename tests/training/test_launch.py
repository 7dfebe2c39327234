"""How many processes there are: the launcher's word, unless the user says something else."""

from __future__ import annotations

import pytest

from sparring.errors import UserError
from sparring.training.launch import agreed, launched

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "gan", "SLURM_PROCID": "3"}


@pytest.fixture(params=[TORCHRUN, SRUN], ids=["torchrun", "srun"])
def launcher(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Two nodes with four processes each."""
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


def test_without_a_launcher_the_user_decides() -> None:
    assert launched() is None
    assert agreed(3, 2) == (3, 2)


@pytest.mark.parametrize("asked", [(1, 1), (4, 2)])
def test_a_launcher_says_how_many_there_are(launcher: None, asked: tuple[int, int]) -> None:
    assert launched() == (4, 2)
    assert agreed(*asked) == (4, 2)


def test_two_answers_are_refused(launcher: None) -> None:
    with pytest.raises(UserError, match="started 4 processes on each of 2 nodes, and not 2 on 2: leave --devices"):
        agreed(2, 2)


def test_nodes_with_unequal_numbers_of_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SRUN, "SLURM_NTASKS": "7"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="7 processes on 2 nodes: start as many on each"):
        launched()


def test_a_shell_inside_an_allocation_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SRUN, "SLURM_JOB_NAME": "interactive"}.items():
        monkeypatch.setenv(name, value)
    assert launched() is None
