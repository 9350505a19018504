from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.feishu import frames
from adapters.feishu.endpoint import ClientConfig, EndpointError, client_config, endpoint
from adapters.feishu.frames import Assembly, Frame, FrameError, answer, decode, encode
from adapters.simulators import feishu_wire as wire
from tests.adapters.hosting import SetClock

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT64 = st.integers(0, 2**64 - 1)
FRAMES = st.builds(
    Frame,
    seq_id=UINT64,
    log_id=UINT64,
    service=INT32,
    method=INT32,
    headers=st.lists(st.tuples(st.text(), st.text()), max_size=5).map(tuple),
    payload_encoding=st.text(),
    payload_type=st.text(),
    payload=st.binary(),
    log_id_new=st.text(),
)


class TestFrame:
    @given(FRAMES)
    def test_comes_back_as_it_was(self, frame):
        assert decode(encode(frame)) == frame

    @given(FRAMES)
    def test_cut_short_it_is_refused_or_shorter(self, frame):
        data = encode(frame)
        for end in range(0, len(data), max(len(data) // 20, 1)):
            with suppress(FrameError):
                assert decode(data[:end]) != frame

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_frame_or_refused(self, data):
        with suppress(FrameError):
            assert decode(encode(decode(data))) == decode(data)

    def test_the_platform_reads_ours_and_we_read_its(self):
        packet = wire.Packet(seq=7, log=9, service=5, method=1, headers={"a": "b"}, payload=b"x")
        frame = Frame(seq_id=7, log_id=9, service=5, method=1, headers=(("a", "b"),), payload=b"x")
        assert decode(wire.pack(packet)) == frame
        assert wire.unpack(encode(frame)) == packet

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            bytes.fromhex("080010001801"),  # no method
            bytes.fromhex("0800100018012000") + b"\x2a\x02\x0a\x00",  # a header without a value
            bytes.fromhex("0800100018012000") + b"\x2a\x05\x0a\x01\xff\x12\x00",  # no UTF-8
            bytes.fromhex("0800100018012000") + b"\x42\x05abc",  # too short
            bytes.fromhex("0800100018012000") + b"\x43",  # a group
            bytes.fromhex("0800100018012000") + b"\x01",  # field 0
            bytes.fromhex("0800100018012000") + b"\x49\x01",  # fixed and too short
            b"\x0a\x00" + bytes.fromhex("100018012000"),  # a number that is a text
            b"\x08" + b"\xff" * 9 + b"\x7f" + bytes.fromhex("100018012000"),  # 70 bits
            b"\x08" + b"\x80" * 11,
            bytes.fromhex("0800100018ffffffff7f2000"),  # service beyond 32 bits
        ],
    )
    def test_what_is_no_frame_is_refused(self, data):
        with pytest.raises(FrameError):
            decode(data)

    def test_fields_of_tomorrow_are_skipped(self):
        more = b"\x50\x01" + b"\x5a\x01x" + b"\x61" + bytes(8) + b"\x6d" + bytes(4)
        assert decode(encode(frames.ping(1)) + more) == frames.ping(1)

    def test_too_many_headers_are_refused(self):
        frame = Frame(service=1, method=1, headers=(("a", "b"),) * (frames.MAX_HEADERS + 1))
        with pytest.raises(FrameError, match="headers"):
            decode(encode(frame))

    def test_an_answer_is_the_same_frame_with_how_long_it_took(self):
        frame = Frame(seq_id=7, log_id=9, service=5, method=1, headers=(("type", "event"),))
        answered = answer(frame, b'{"code":200}', took_ms=3)
        assert answered.headers == (("type", "event"), ("biz_rt", "3"))
        assert (answered.seq_id, answered.payload) == (7, b'{"code":200}')


def part(name, index, total, payload=b"x"):
    headers = (("message_id", name), ("sum", str(total)), ("seq", str(index)))
    return Frame(service=1, method=1, headers=headers, payload=payload)


class TestAssembly:
    @given(st.permutations(range(5)))
    def test_parts_in_any_order_are_whole_with_the_last(self, order):
        assembly = Assembly(lambda: 0.0)
        found = [assembly.add(part("a", index, 5, str(index).encode())) for index in order]
        assert found == [None] * 4 + [b"01234"]
        assert assembly.size == 0

    def test_without_a_count_it_is_whole(self):
        assembly = Assembly(lambda: 0.0)
        assert assembly.add(Frame(service=1, method=1, payload=b"a")) == b"a"
        assert assembly.add(part("a", 0, 1, b"b")) == b"b"

    def test_a_part_that_comes_twice_counts_once(self):
        assembly = Assembly(lambda: 0.0)
        assert assembly.add(part("a", 0, 2, b"1")) is None
        assert assembly.add(part("a", 0, 2, b"1")) is None
        assert assembly.size == 1
        assert assembly.add(part("a", 1, 2, b"2")) == b"12"

    def test_what_stays_incomplete_is_forgotten(self):
        clock = SetClock()
        assembly = Assembly(clock)
        assembly.add(part("a", 0, 2))
        clock.time += frames.MAX_AGE_S + 0.1
        assembly.add(part("b", 0, 2))
        assert assembly.size == 1
        assert assembly.add(part("a", 1, 2)) is None

    def test_only_so_many_wait(self):
        assembly = Assembly(lambda: 0.0)
        for index in range(frames.MAX_WAITING + 5):
            assembly.add(part(str(index), 0, 2))
        assert assembly.size == frames.MAX_WAITING

    def test_only_so_many_bytes_wait(self):
        assembly = Assembly(lambda: 0.0)
        big = bytes(frames.MAX_BYTES // 2)
        assembly.add(part("a", 0, 9, big))
        assembly.add(part("b", 0, 9, big))
        assembly.add(part("c", 0, 9, b"x"))
        # The oldest made room.
        assert assembly.size == len(big) + 1
        assembly.add(part("c", 1, 9, big))
        with pytest.raises(FrameError, match="large"):
            assembly.add(part("c", 2, 9, big))
        assert assembly.size <= frames.MAX_BYTES

    @pytest.mark.parametrize(
        ("index", "total"), [(2, 2), (0, frames.MAX_PARTS + 1), ("-1", 2), ("x", 2), (0, "9" * 9)]
    )
    def test_parts_that_cannot_be_counted_are_refused(self, index, total):
        with pytest.raises(FrameError):
            Assembly(lambda: 0.0).add(part("a", index, total))

    def test_parts_of_different_messages_are_refused(self):
        assembly = Assembly(lambda: 0.0)
        assembly.add(part("a", 0, 2))
        with pytest.raises(FrameError, match="together"):
            assembly.add(part("a", 1, 3))
        assert assembly.size == 0


class TestEndpoint:
    def test_without_wishes_there_are_the_usual_ones(self):
        found = endpoint({"URL": "wss://a/ws?device_id=1&service_id=2"})
        assert (found.service_id, found.config) == (2, ClientConfig())

    @pytest.mark.parametrize(
        "data", [None, {}, [], {"URL": 1}, {"URL": "wss://a"}, {"URL": "wss://a?service_id=x"}]
    )
    def test_what_is_no_address_is_refused(self, data):
        with pytest.raises(EndpointError):
            endpoint(data)

    @pytest.mark.parametrize("payload", [b"", b"x", b"[]", b'{"PingInterval": "x"}', b"[" * 9999])
    def test_wishes_that_cannot_be_read_are_none(self, payload):
        assert client_config(payload) is None
