"""One server for all tests of the contract, and who calls it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Ground
from tests.contract.server import Furnished, Served


@pytest.fixture(scope="session")
def served(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pages: Path = tmp_path_factory.mktemp("web")
    with Served(ground, pages).running() as served:
        yield served


@pytest.fixture
def owner(served: Served) -> Furnished:
    """Of a tenant of the test's own, so that what it destroys is missed by nobody."""
    return served.as_owner()


@pytest.fixture
def operator(served: Served) -> Furnished:
    return served.as_operator()


@pytest.fixture
def nobody() -> Furnished:
    return Furnished(token=None, ids={})
