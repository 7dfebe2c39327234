"""The planted tables as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted import patients, planted


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    planted().to_csv(folder / "people.csv", index=False)
    patients().to_csv(folder / "patients.csv", index=False)
    return folder
