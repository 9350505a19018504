from random import Random

import pytest

from instance_agent.backoff import MAX_RETRY_AFTER_S, Backoff, retry_after


class Highest(Random):
    """Full jitter at its worst."""

    def uniform(self, a, b):
        return b


class TestBackoff:
    def test_doubles_up_to_its_cap(self):
        backoff = Backoff(base_s=1, cap_s=30, random=Highest())
        assert [backoff.next() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]

    def test_starts_over_after_a_success(self):
        backoff = Backoff(base_s=1, cap_s=30, random=Highest())
        backoff.next()
        backoff.reset()
        assert backoff.next() == 1

    def test_waits_at_least_as_long_as_it_was_asked(self):
        backoff = Backoff(base_s=1, cap_s=30, random=Random(1))
        assert backoff.next(17) == 17
        assert backoff.next(1e9) == MAX_RETRY_AFTER_S

    def test_never_overflows(self):
        backoff = Backoff(base_s=1, cap_s=30, random=Highest())
        assert {backoff.next() for _ in range(3000)} == {1, 2, 4, 8, 16, 30}


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("7", 7), ("0", 0), (None, None), ("", None), ("-1", None), ("٣", None), ("soon", None)],
    )
    def test_reads_seconds_and_nothing_else(self, value, seconds):
        assert retry_after(value) == seconds
