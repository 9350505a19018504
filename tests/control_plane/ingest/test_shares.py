"""Each tenant's share of what a process takes in."""

from random import Random
from uuid import UUID

import pytest

from control_plane.access.limits import MAX_BUCKETS, Rate
from control_plane.ingest import shares as module
from control_plane.ingest.shares import Shares
from control_plane.kit.errors import TooMany

A, B = UUID(int=1), UUID(int=2)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> Shares:
    return Shares(Rate(100, 1), now=clock, random=Random(7))


class TestShares:
    def test_one_tenants_flood_is_refused_and_others_go_on(self, shares: Shares) -> None:
        shares.take(A, 100)

        with pytest.raises(TooMany) as refused:
            shares.take(A, 1)

        assert refused.value.code == "too_many_events_of_tenant"
        shares.take(B, 100)

    def test_a_batch_is_taken_whole_and_paid_back(self, shares: Shares, clock: Clock) -> None:
        shares.take(A, 50)
        shares.take(A, 250)

        with pytest.raises(TooMany) as refused:
            shares.take(A, 1)
        assert refused.value.retry_after_s >= 2.01
        clock.now += 2
        with pytest.raises(TooMany):
            shares.take(A, 1)
        clock.now += 0.011
        shares.take(A, 1)

    def test_those_refused_together_come_back_apart(self, shares: Shares) -> None:
        shares.take(A, 100)
        waits = set()
        for _ in range(50):
            with pytest.raises(TooMany) as refused:
                shares.take(A, 1)
            waits.add(refused.value.retry_after_s)

        assert len(waits) == 50
        assert all(0.01 <= wait <= 1.01 for wait in waits)

    def test_remembers_so_many_tenants_and_no_more(
        self, shares: Shares, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_BUCKETS", 2)
        for n in range(5):
            shares.take(UUID(int=n), 100)

        assert MAX_BUCKETS > 2
        assert len(shares._buckets) == 2
