"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights (DETKIT_SHARED, else ../shared/data), or a skip that names it."""
    named = os.environ.get("DETKIT_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    folder = folder / "data" if (folder / "data").is_dir() else folder
    if not (folder / "bccd").is_dir():
        pytest.skip(f"real data: no {folder} (set DETKIT_SHARED to its folder)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory):
    """Proposals are kept in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Results that repeat bit for bit, and no fight for the cores."""
    torch.set_num_threads(1)
