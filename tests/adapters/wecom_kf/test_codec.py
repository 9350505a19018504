import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Content
from adapters.model import File, Image, Inbound, Location, Rejected, Text, Unsupported
from adapters.wecom.codec import upload_kind
from adapters.wecom_kf import codec, positions
from adapters.wecom_kf.codec import Echo, Notice, decode
from adapters.wecom_kf.positions import Position

ROW = {
    "msgid": "m1",
    "open_kfid": "wk1",
    "external_userid": "wm1",
    "send_time": 1_615_478_585,
    "origin": 3,
    "msgtype": "text",
    "text": {"content": "hello", "menu_id": "101"},
}
EVENT = {"event_type": "enter_session", "external_userid": "wm1", "welcome_code": "c"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


def row(**changes) -> bytes:
    return json.dumps(ROW | changes).encode()


def segments(**changes):
    found = decode(row(**changes))
    assert isinstance(found, Inbound)
    return found.segments


class TestDecode:
    def test_a_text_keeps_what_it_says(self):
        for text in ("hello", " a\r\nb ", "😀" * 10_000, "a\0b"):
            assert segments(text={"content": text}) == [Text(text=text)]

    def test_an_empty_one_says_nothing(self):
        assert segments(text={"content": " "}) == []

    def test_who_where_and_when(self):
        found = decode(row())
        assert isinstance(found, Inbound)
        assert (found.conversation.id, found.sender.id) == ("wk1:wm1", "wm1")
        assert (found.dedupe_key, found.occurred_at) == ("m1", 1_615_478_585.0)

    def test_a_colleague_and_the_system_are_not_the_customer(self):
        for origin in (4, 5, None, "3"):
            assert isinstance(decode(row(origin=origin)), Echo)

    def test_an_event_says_what_happened(self):
        found = decode(row(msgtype="event", origin=4, event=EVENT))
        assert isinstance(found, Notice)
        assert (found.event, found.welcome_code, found.sender_id) == ("enter_session", "c", "wm1")

    @pytest.mark.parametrize(
        ("kind", "payload"),
        [
            ("image", {}),
            ("image", {"media_id": ["x"]}),
            ("image", "x"),
            ("location", {"latitude": 91, "longitude": 0}),
            ("location", {"latitude": "north", "longitude": 0}),
            ("link", {"url": ""}),
            ("business_card", None),
        ],
    )
    def test_what_cannot_be_read_is_still_a_message(self, kind, payload):
        [found] = segments(msgtype=kind, **{kind: payload})
        assert isinstance(found, Unsupported)
        assert found.platform_type == kind

    @pytest.mark.parametrize(
        "changes",
        [
            {"msgid": ""},
            {"msgid": 5},
            {"msgtype": None},
            {"external_userid": " "},
            {"send_time": -1},
            {"send_time": 1e300},
            {"send_time": 10**18},
            {"msgtype": "event", "event": None},
            {"msgtype": "event", "event": {}},
        ],
    )
    def test_what_belongs_to_nobody_is_rejected(self, changes):
        assert isinstance(decode(row(**changes)), Rejected)

    def test_invalid_bytes_are_marked(self):
        raw = row().replace(b"hello", b"he\xffllo")
        found = decode(raw)
        assert isinstance(found, Inbound)
        assert found.segments == [Text(text="he\ufffdllo")]

    def test_of_a_name_given_twice_the_last_counts(self):
        raw = row()[:-1] + b', "msgid": "m2"}'
        assert isinstance(found := decode(raw), Inbound)
        assert found.message_id == "m2"

    def test_deep_nesting_is_rejected(self):
        deep = b"[" * 100_000 + b"]" * 100_000
        assert isinstance(decode(b'{"a": ' + deep + b"}"), Rejected)

    @given(st.binary())
    def test_no_bytes_break_it(self, raw):
        assert isinstance(decode(raw), Rejected)

    @given(
        st.dictionaries(st.sampled_from([*ROW, "event", "image", "link"]), JSON),
        st.sampled_from([*codec._SEGMENTS, "event", "x"]),
    )
    def test_no_values_break_it(self, changes, kind):
        found = decode(msgspec.json.encode(ROW | {"msgtype": kind} | changes))
        msgspec.json.encode(found)

    @given(st.sampled_from([*codec._SEGMENTS]), JSON)
    def test_no_payload_loses_the_message(self, kind, payload):
        assert isinstance(
            decode(msgspec.json.encode(ROW | {"msgtype": kind, kind: payload})), Inbound
        )


class TestPosition:
    @given(st.integers(0, 2**40), st.text(max_size=64))
    def test_is_read_as_it_was_written(self, since, cursor):
        position = Position("wk1", since, cursor)
        assert positions.read(position.text, "wk1", now=0) == position

    @given(st.none() | st.text())
    def test_anything_else_is_the_beginning(self, text):
        found = positions.read(text, "wk1", now=10_000)
        assert found == Position("wk1", int(10_000 - positions.GRACE_S))

    def test_of_another_account_it_is_the_beginning(self):
        found = positions.read("wk2:5:abc", "wk1", now=10_000)
        assert found.cursor == ""


class TestBody:
    def test_a_place_keeps_its_numbers(self):
        assert codec.body(Location(lat=1.5, lon=2.5))["location"]["latitude"] == 1.5

    def test_ids_of_ours_fit_and_are_the_same_each_time(self):
        assert len(codec.message_id("k" * 500)) == 32
        assert codec.message_id("k") == codec.message_id("k") != codec.message_id("l")

    def test_an_upload_has_no_title(self):
        content = Content(body=bytes(99), name="a", content_type="image/gif", sha256="0")
        kind = upload_kind(Image(ref=None), content)
        assert kind == "file"
        assert codec.media_body(kind, "id", File(ref=None)) == {
            "msgtype": "file",
            "file": {"media_id": "id"},
        }
