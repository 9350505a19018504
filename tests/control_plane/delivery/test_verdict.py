"""What an outcome means, as a table."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.delivery.models import DeliveryState
from control_plane.delivery.reasons import reason
from control_plane.delivery.verdict import MAX_ATTEMPTS, Verdict, judge
from instance_agent.protocol import PartOutcome

SENT = PartOutcome(outcome="sent", platform_message_id="1")
UNKNOWN = PartOutcome(outcome="unknown")
NOT_TRIED = PartOutcome(outcome="failed", error_class="not_tried")
NEVER, HOUR, ALWAYS = timedelta(0), timedelta(hours=1), timedelta(days=10_000)
UNCONFIRMED = Verdict(state=DeliveryState.UNCONFIRMED, error_class="unknown_outcome")


def failed(error_class: str, retry_after_s: float | None = None) -> PartOutcome:
    return PartOutcome(outcome="failed", error_class=error_class, retry_after_s=retry_after_s)


def verdict(*parts: PartOutcome, attempt: int = 1, age=NEVER, safe=NEVER, seed: int = 1) -> Verdict:
    return judge(parts, attempt=attempt, age=age, resend_safe=safe, rng=random.Random(seed))


class TestDoubt:
    @pytest.mark.parametrize("error_class", ["rate_limited", "content_invalid"])
    def test_is_not_settled_by_a_refusal(self, error_class: str) -> None:
        again = judge([failed(error_class, 7)], attempt=2, age=NEVER, resend_safe=HOUR, doubt=True)

        assert (again.state, again.error_class) == (DeliveryState.QUEUED, "unknown_outcome")
        assert again.again_after == timedelta(seconds=7)

    @pytest.mark.parametrize(("attempt", "age"), [(2, HOUR), (MAX_ATTEMPTS, NEVER)])
    def test_is_left_to_a_person_in_the_end(self, attempt: int, age: timedelta) -> None:
        refused = [failed("server_busy")]

        assert judge(refused, attempt=attempt, age=age, resend_safe=HOUR, doubt=True) == UNCONFIRMED

    def test_is_settled_by_success(self) -> None:
        sent = judge([SENT], attempt=2, age=HOUR, resend_safe=HOUR, doubt=True)

        assert sent == Verdict(state=DeliveryState.SENT)


class TestSent:
    @pytest.mark.parametrize("parts", [[SENT], [SENT, SENT, SENT]])
    @pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS, MAX_ATTEMPTS + 1])
    def test_is_sent_whenever_every_part_is(self, parts: list, attempt: int) -> None:
        assert verdict(*parts, attempt=attempt, age=ALWAYS) == Verdict(state=DeliveryState.SENT)


class TestFailed:
    @pytest.mark.parametrize(
        "error_class", ["content_invalid", "recipient_invalid", "secret_invalid", "new_to_us", None]
    )
    def test_is_final_when_the_platform_will_not_change_its_mind(self, error_class) -> None:
        assert verdict(failed(error_class), safe=ALWAYS) == Verdict(
            state=DeliveryState.FAILED, error_class=error_class
        )

    @pytest.mark.parametrize(
        "error_class", ["rate_limited", "server_busy", "token_expired", "token_invalid"]
    )
    def test_is_tried_again_when_it_may_pass(self, error_class: str) -> None:
        again = verdict(failed(error_class))

        assert (again.state, again.error_class) == (DeliveryState.QUEUED, error_class)
        assert again.again_after is not None
        assert NEVER <= again.again_after <= timedelta(seconds=1)

    @pytest.mark.parametrize(
        ("attempt", "tried_again"), [(MAX_ATTEMPTS - 1, True), (MAX_ATTEMPTS, False)]
    )
    def test_is_final_after_the_last_attempt(self, attempt: int, tried_again: bool) -> None:
        last = verdict(failed("server_busy"), attempt=attempt)

        assert (last.again_after is not None) == tried_again
        assert (last.state == DeliveryState.FAILED) != tried_again

    @pytest.mark.parametrize(("asked_s", "least_s"), [(30.0, 30), (0.0, 0), (86_400.0, 600)])
    def test_waits_as_long_as_the_platform_asks_within_reason(
        self, asked_s: float, least_s: int
    ) -> None:
        again = verdict(failed("rate_limited", asked_s)).again_after

        assert again is not None
        assert again >= timedelta(seconds=least_s)
        assert again <= max(timedelta(seconds=least_s), timedelta(seconds=1))

    def test_waits_longer_and_longer_up_to_a_bound(self) -> None:
        longest = [
            max(
                verdict(failed("server_busy"), attempt=attempt, seed=seed).again_after or NEVER
                for seed in range(200)
            )
            for attempt in (1, 4, 9)
        ]

        assert longest[0] < longest[1] < longest[2] <= timedelta(minutes=10)


class TestUnknown:
    @pytest.mark.parametrize(
        ("age", "safe", "attempt", "resent"),
        [
            pytest.param(NEVER, NEVER, 1, False, id="a platform that recognises nothing"),
            pytest.param(NEVER, HOUR, 1, True, id="within the hour"),
            pytest.param(HOUR - timedelta(seconds=1), HOUR, 2, True, id="at its end"),
            pytest.param(HOUR, HOUR, 2, False, id="past the hour"),
            pytest.param(ALWAYS - HOUR, ALWAYS, 9, True, id="a platform that never forgets"),
            pytest.param(NEVER, ALWAYS, MAX_ATTEMPTS, False, id="often enough"),
        ],
    )
    def test_is_resent_only_while_the_platform_would_recognise_it(
        self, age: timedelta, safe: timedelta, attempt: int, resent: bool
    ) -> None:
        found = verdict(UNKNOWN, age=age, safe=safe, attempt=attempt)

        if not resent:
            assert found == UNCONFIRMED
        else:
            assert (found.state, found.error_class) == (DeliveryState.QUEUED, "unknown_outcome")
            assert found.again_after is not None


class TestParts:
    @pytest.mark.parametrize(
        ("parts", "state", "error_class"),
        [
            ([SENT, UNKNOWN, NOT_TRIED], DeliveryState.UNCONFIRMED, "unknown_outcome"),
            ([SENT, failed("content_invalid"), NOT_TRIED], DeliveryState.FAILED, "content_invalid"),
            ([SENT, failed("rate_limited"), NOT_TRIED], DeliveryState.QUEUED, "rate_limited"),
            ([UNKNOWN, NOT_TRIED, NOT_TRIED], DeliveryState.UNCONFIRMED, "unknown_outcome"),
        ],
    )
    def test_the_first_that_was_not_sent_decides(
        self, parts: list, state: DeliveryState, error_class: str
    ) -> None:
        found = verdict(*parts)

        assert (found.state, found.error_class) == (state, error_class)


class TestJudge:
    @given(
        parts=st.lists(
            st.builds(
                PartOutcome,
                outcome=st.sampled_from(["sent", "failed", "unknown"]),
                error_class=st.sampled_from([None, "rate_limited", "server_busy", "not_tried"]),
                retry_after_s=st.none() | st.floats(min_value=0, max_value=1e9),
            ),
            min_size=1,
            max_size=4,
        ),
        attempt=st.integers(1, MAX_ATTEMPTS + 2),
        age=st.timedeltas(min_value=NEVER, max_value=ALWAYS),
        safe=st.sampled_from([NEVER, HOUR, ALWAYS]),
    )
    def test_promises(self, parts: list, attempt: int, age: timedelta, safe: timedelta) -> None:
        found = verdict(*parts, attempt=attempt, age=age, safe=safe)

        assert (found.state == DeliveryState.QUEUED) == (found.again_after is not None)
        assert (found.state == DeliveryState.SENT) == all(p.outcome == "sent" for p in parts)
        assert attempt < MAX_ATTEMPTS or found.again_after is None
        stopped_at = next((p for p in parts if p.outcome != "sent"), SENT)
        if stopped_at.outcome == "unknown" and age >= safe:
            assert found == UNCONFIRMED


# What a refusal of each class does, by the names of the protocol notes: the whole table.
CLASSES = {
    **dict.fromkeys(["token_invalid", "token_expired", "token_missing"], DeliveryState.QUEUED),
    **dict.fromkeys(["rate_limited", "server_busy"], DeliveryState.QUEUED),
    **dict.fromkeys(
        ["window_expired", "window_count_exceeded", "reply_handle_invalid"], DeliveryState.EXPIRED
    ),
    **dict.fromkeys(
        [
            "secret_invalid",
            "ip_not_allowed",
            "no_permission",
            "bot_banned",
            "recipient_invalid",
            "recipient_refuses",
            "recipient_unavailable",
            "bot_not_in_chat",
            "chat_gone",
            "chat_moved",
            "message_gone",
            "too_long",
            "bad_markup",
            "empty_message",
            "content_invalid",
            "media_failed",
            "media_quota",
        ],
        DeliveryState.FAILED,
    ),
}


class TestClasses:
    @pytest.mark.parametrize("error_class", CLASSES)
    def test_decide_whether_it_is_tried_again(self, error_class: str) -> None:
        found = verdict(failed(error_class))

        assert (found.state, found.error_class) == (CLASSES[error_class], error_class)
        assert (found.again_after is not None) == (found.state == DeliveryState.QUEUED)

    @pytest.mark.parametrize("error_class", CLASSES)
    def test_are_said_in_plain_words(self, error_class: str) -> None:
        assert reason(CLASSES[error_class], error_class)

    def test_a_chat_that_moved_is_followed_where_its_platform_says_where_to(self) -> None:
        moved = PartOutcome(outcome="failed", error_class="chat_moved", moved_to="there")

        assert verdict(moved).state == DeliveryState.QUEUED
        assert verdict(failed("chat_moved")).state == DeliveryState.FAILED
