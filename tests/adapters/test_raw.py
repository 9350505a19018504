"""What people get to see of what a platform sent: where it was strange, without secrets, cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.model import Image, Ref, Reply, Text, Unsupported
from adapters.raw import MASK, MAX_RAW, kept

STRANGE = [Unsupported(platform_type="vote")]


class TestKept:
    def test_is_nothing_where_all_was_carried(self) -> None:
        picture = Image(ref=Ref(via="media", id="1"))

        assert kept([Text(text="hello"), picture], {"secret": 1}) == ""

    @pytest.mark.parametrize(
        "segments",
        [STRANGE, [Text(text="a"), *STRANGE], [Reply(quoted=[Text(text="b"), *STRANGE])]],
    )
    def test_is_what_came_where_something_was_strange(self, segments: Any) -> None:
        assert json.loads(kept(segments, {"type": "vote", "n": [1, None]})) == {
            "type": "vote",
            "n": [1, None],
        }

    @pytest.mark.parametrize("sent", ['{"type": "投票"}', b'{"type": "\xe6\x8a\x95\xe7\xa5\xa8"}'])
    def test_reads_what_was_not_read_yet(self, sent: Any) -> None:
        assert kept(STRANGE, sent) == '{"type": "投票"}'

    @pytest.mark.parametrize(
        "name",
        [
            "token",
            "access_token",
            "AccessToken",
            "appSecret",
            "sessionWebhook",
            "response_url",
            "EncodingAESKey",
            "api_key",
            "password",
            "downloadCode",
        ],
    )
    def test_has_no_secrets(self, name: str) -> None:
        shown = kept(STRANGE, {"a": [{name: "hush", "text": "said"}]})

        assert json.loads(shown) == {"a": [{name: MASK, "text": "said"}]}

    def test_looks_through_json_within_json(self) -> None:
        inner = json.dumps({"card": json.dumps({"token": "hush", "title": "t"})})

        assert json.loads(kept(STRANGE, {"content": inner})) == {
            "content": {"card": {"token": MASK, "title": "t"}}
        }

    def test_has_no_keys_that_are_in_addresses(self) -> None:
        sent = {"url": "https://example.com/f?rkey=hush&x=1", "text": "see https://a.b/c#hush ok"}

        assert json.loads(kept(STRANGE, sent)) == {
            "url": f"https://example.com/f?{MASK}",
            "text": f"see https://a.b/c?{MASK} ok",
        }

    @pytest.mark.parametrize(
        "sent",
        [
            {"text": "x" * 1_000_000},
            {"many": ["x" * 100] * 100_000},
            {f"n{n}": "x" * 1000 for n in range(1000)},
        ],
    )
    def test_is_cut(self, sent: Any) -> None:
        assert len(kept(STRANGE, sent)) <= MAX_RAW

    def test_of_what_is_too_deep_ends(self) -> None:
        deep: Any = "end"
        for _ in range(500):
            deep = {"in": deep}

        assert "…" in kept(STRANGE, deep)
        assert kept(STRANGE, b"[" * 200_000) == ""

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_of_anything_is_text_that_can_be_sent(self, sent: Any) -> None:
        shown = kept(STRANGE, sent)

        assert len(shown.encode()) <= 4 * MAX_RAW
