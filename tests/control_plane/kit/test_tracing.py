"""Places of spans, and work that follows a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from control_plane.kit import tracing

PLACE = bytes(range(1, 25))
HEADER = f"00-{PLACE[:16].hex()}-{PLACE[16:].hex()}-01"


class TestHeader:
    def test_is_read_back_as_it_was_said(self) -> None:
        assert tracing.read(HEADER) == PLACE
        with tracing.span("one"):
            here = tracing.here()
            assert tracing.read(tracing.header()["traceparent"]) == here

    @pytest.mark.parametrize(
        "given",
        [None, "", "nonsense", HEADER.upper(), HEADER + "-", f"00-{'0' * 32}-{'0' * 15}1-01"],
    )
    def test_that_is_none_is_none(self, given: str | None) -> None:
        assert tracing.read(given) is None

    @given(st.text(max_size=80))
    def test_whatever_it_is_breaks_nothing(self, given: str) -> None:
        assert tracing.read(given) is None or len(given) == 55

    def test_outside_of_any_span_there_is_none(self) -> None:
        assert tracing.here() is None
        assert tracing.header() == {}


class TestSpan:
    @pytest.mark.parametrize("recorded", [True, False])
    def test_stays_in_the_trace_of_its_place(
        self, recorded: bool, request: pytest.FixtureRequest
    ) -> None:
        if recorded:
            request.getfixturevalue("spans")
        with tracing.span("behind", PLACE):
            here = tracing.here()
            assert here is not None
            assert here[:16] == PLACE[:16]
            assert here[16:] != PLACE[16:]
            assert tracing.stamp(None, "", {})["trace_id"] == PLACE[:16].hex()

    def test_without_a_place_begins_a_trace_also_inside_another(self) -> None:
        with tracing.span("one", PLACE), tracing.span("other"):
            here = tracing.here()
            assert here is not None
            assert here[:16] != PLACE[:16]

    def test_says_nothing_of_what_an_error_said(self, spans: InMemorySpanExporter) -> None:
        with pytest.raises(ValueError, match="secret"), tracing.span("fails"):
            raise ValueError("secret")

        [span] = spans.get_finished_spans()
        assert (list(span.events), span.status.description) == ([], None)


class TestWork:
    def test_follows_one_message_after_the_other(self, spans: InMemorySpanExporter) -> None:
        with tracing.working("lane"):
            tracing.follow(PLACE)
            tracing.follow(bytes(reversed(PLACE)))
        assert tracing.here() is None

        seen = [(span.name, span.context.trace_id) for span in spans.get_finished_spans()]
        assert seen == [
            ("lane", int.from_bytes(PLACE[:16], "big")),
            ("lane", int.from_bytes(bytes(reversed(PLACE))[:16], "big")),
        ]

    def test_outside_of_any_there_is_nobody_to_follow(self) -> None:
        tracing.follow(PLACE)

        assert tracing.here() is None
