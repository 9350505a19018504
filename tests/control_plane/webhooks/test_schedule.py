"""What follows from an attempt."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.webhooks.schedule import (
    MAX_ATTEMPTS,
    MAX_REST,
    WAITS,
    Outcome,
    retry_after,
    wait,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = Outcome(status=500, error="no")


class TestWait:
    @pytest.mark.parametrize("attempts", range(1, MAX_ATTEMPTS))
    def test_is_the_scheduled_one_and_at_most_a_fifth_more(self, attempts: int) -> None:
        waits = [wait(attempts, FAILED, random.Random(seed)) for seed in range(50)]

        assert all(WAITS[attempts - 1] <= each <= WAITS[attempts - 1] * 1.2 for each in waits)
        assert len(set(waits)) > 40

    def test_the_last_attempt_has_none(self) -> None:
        assert wait(MAX_ATTEMPTS, FAILED, random.Random()) is None

    def test_a_receiver_that_is_gone_has_none(self) -> None:
        assert wait(1, Outcome(status=410, error="gone"), random.Random()) is None

    def test_what_the_receiver_asks_for_counts_when_it_is_longer(self) -> None:
        asked = Outcome(status=429, error="busy", retry_after=timedelta(minutes=9))

        assert wait(1, asked, random.Random()) == timedelta(minutes=9)
        assert wait(4, asked, random.Random()) >= WAITS[3]


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, 0),
            ("120", 120),
            (" 5 ", 5),
            ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
            ("Thu, 01 Jan 2026 00:01:00 -0000", 60),
            ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
            ("Fri, 01 Jan 2027 00:00:00 GMT", MAX_REST.total_seconds()),
            ("9" * 400, MAX_REST.total_seconds()),
            ("-5", 0),
            ("²", 0),
            ("soon", 0),
            ("", 0),
            ("Thu, 99 Jan 2026 00:01:00 GMT", 0),
        ],
    )
    def test_is_seconds_or_a_date_and_bounded(self, header: str | None, seconds: float) -> None:
        assert retry_after(header, NOW) == timedelta(seconds=seconds)
