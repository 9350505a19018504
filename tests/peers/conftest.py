"""One process with the vendors' SDKs for each process of tests."""

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.cluster.substrate.packages import UnavailableError
from tests.peers.place import Peers


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    try:
        started = Peers()
    except UnavailableError as error:
        do_without(error)
    with started as running:
        yield running


def do_without(error: UnavailableError) -> NoReturn:
    """Skip, and say why; a build that installs our own packages can install these."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"the vendors' SDKs could not be installed: {error}", pytrace=False)
    pytest.skip(f"no vendors' SDKs, so nothing shows that they agree with us: {error}")
