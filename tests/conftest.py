"""What all tests share: the one table of tolerances."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Tolerances:
    """How far two ways to the same number may differ; relative unless said."""

    exact: float = 1e-12  # the same mathematics by another route, float64
    symmetry: float = 1e-10  # operations of O(3), permutations, translations, supercells, float64
    derivative: float = 1e-6  # five-point differences, float64, relative to the largest force or element
    single: float = 1e-4  # float32 against float64
    displacement: float = 1e-2  # a finite displacement of 0.01 Å against displacement → 0


@pytest.fixture(scope="session")
def tolerances() -> Tolerances:
    return Tolerances()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder(repository) -> Path:
    """Where external data live; what needs them is skipped, by name, where they are not."""
    folder = Path(os.environ.get("MLIP_DATA", repository.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"external data not there: {folder} (set MLIP_DATA)")
    return folder
