"""What answers of the API server mean."""

import json

import pytest

from control_plane.fleet.provision.base import Invalid, Transient
from control_plane.fleet.provision.kubernetes_api import Bucket
from control_plane.fleet.provision.kubernetes_errors import (
    MAX_PAUSE_S,
    Conflict,
    Expired,
    Throttled,
    refusal,
)


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


class TestRefusal:
    @pytest.mark.parametrize(
        ("status", "given", "meant"),
        [
            (400, body(reason="BadRequest"), Invalid),
            (401, body(reason="Unauthorized"), Transient),
            (403, body(reason="Forbidden", message='User "x" cannot patch'), Invalid),
            (403, body(reason="Forbidden", message="exceeded quota: botyard"), Transient),
            (
                403,
                body(details={"causes": [{"reason": "NamespaceTerminating"}]}),
                Conflict,
            ),
            (403, body(message="x because it is being terminated"), Conflict),
            (404, body(reason="NotFound"), Transient),
            (409, body(reason="AlreadyExists"), Conflict),
            (409, body(reason="Conflict"), Conflict),
            (410, body(reason="Expired"), Expired),
            (422, body(reason="Invalid"), Invalid),
            (429, body(reason="TooManyRequests"), Throttled),
            (500, body(reason="InternalError"), Transient),
            (502, b"<html>", Transient),
            (504, body(reason="Timeout"), Transient),
            (500, b"[]", Transient),
        ],
    )
    def test_is_of_its_own_class(self, status: int, given: bytes, meant: type) -> None:
        assert type(refusal(status, given, {})) is meant

    @pytest.mark.parametrize(
        ("given", "headers", "pause_s"),
        [
            (body(details={"retryAfterSeconds": 7}), {}, 7.0),
            (body(), {"Retry-After": "3"}, 3.0),
            (body(), {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1.0),
            (body(), {}, 1.0),
            (body(), {"Retry-After": "86400"}, MAX_PAUSE_S),
        ],
    )
    def test_to_come_back_later_says_when(
        self, given: bytes, headers: dict, pause_s: float
    ) -> None:
        assert refusal(429, given, headers).pause_s == pause_s

    def test_a_server_that_is_busy_is_left_alone(self) -> None:
        assert isinstance(refusal(503, body(), {"retry-after": "5"}), Throttled)
        assert not isinstance(refusal(503, body(), {}), Throttled)

    def test_is_short(self) -> None:
        assert len(str(refusal(422, body(message="x" * 10_000), {}))) < 400


class TestBucket:
    def test_lets_a_burst_through_and_then_its_rate(self) -> None:
        bucket = Bucket(10, 3, lambda: 0.0)
        waits = [bucket.reserve() for _ in range(5)]
        assert waits == pytest.approx([0, 0, 0, 0.1, 0.2])

    def test_fills_again(self) -> None:
        time = 0.0
        bucket = Bucket(10, 3, lambda: time)
        for _ in range(3):
            bucket.reserve()
        time = 0.25
        assert [bucket.reserve() for _ in range(2)] == [0, 0]

    def test_a_pause_holds_for_everybody(self) -> None:
        bucket = Bucket(10, 3, lambda: 0.0)
        bucket.pause(5)
        assert bucket.reserve() == pytest.approx(5.1)
