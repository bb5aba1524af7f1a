"""One local cluster for all tests that need nodes; names are the tests' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import holocompute as hc

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster() -> Iterator[hc.Cluster]:
    """Three nodes on this machine."""
    with hc.local(3) as cluster:
        yield cluster


@pytest.fixture
def random() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20_240_229)
