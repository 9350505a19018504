"""Back-off: the bounds of the jitter."""

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.kit.backoff import full_jitter

BASE = timedelta(milliseconds=500)
CAP = timedelta(minutes=5)


class Fixed(random.Random):
    """Always draws the same."""

    def __init__(self, drawn: float) -> None:
        super().__init__(0)
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


class TestFullJitter:
    @given(attempt=st.integers(0, 10_000), seed=st.integers())
    def test_is_never_negative_and_never_above_the_cap(self, attempt: int, seed: int) -> None:
        wait = full_jitter(attempt, base=BASE, cap=CAP, rng=random.Random(seed))

        assert timedelta(0) <= wait <= CAP

    def test_the_ceiling_doubles_until_the_cap(self) -> None:
        waits = [full_jitter(n, base=BASE, cap=CAP, rng=Fixed(1.0)) for n in (0, 1, 2, 9, 10, 500)]

        assert waits == [BASE, BASE * 2, BASE * 4, BASE * 512, CAP, CAP]

    def test_the_whole_range_is_used(self) -> None:
        halves = [full_jitter(3, base=BASE, cap=CAP, rng=Fixed(n)) for n in (0.0, 0.5)]

        assert halves == [timedelta(0), BASE * 4]
