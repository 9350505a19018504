"""Rotation and reading of one agent's log."""

import fcntl

import pytest

from control_plane.fleet.provision.process_log import (
    MAX_LINE_BYTES,
    MAX_TAIL_BYTES,
    LineSplitter,
    LogReader,
    last_lines,
    rotate,
)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "agent.log"


def sizes(log):
    return {path.name: path.stat().st_size for path in sorted(log.parent.iterdir())}


class TestRotate:
    def test_leaves_a_small_log_alone(self, log):
        log.write_bytes(b"x" * 100)
        assert not rotate(log, max_bytes=100, keep=2)
        assert sizes(log) == {"agent.log": 100}

    def test_of_no_log_does_nothing(self, log):
        assert not rotate(log, max_bytes=100, keep=2)
        assert sizes(log) == {}

    def test_keeps_so_many_older_ones_newest_first(self, log):
        for letter in "abcd":
            log.write_text(letter * 11)
            assert rotate(log, max_bytes=10, keep=2)
        assert sizes(log) == {"agent.log": 0, "agent.log.1": 10, "agent.log.2": 10}
        assert log.with_name("agent.log.1").read_text() == "d" * 10
        assert log.with_name("agent.log.2").read_text() == "c" * 10

    def test_keeps_only_the_end_of_a_log_that_nobody_watched(self, log):
        log.write_bytes(b"old\n" * 1_000_000 + b"new\n" * 25)
        rotate(log, max_bytes=100, keep=2)
        assert log.with_name("agent.log.1").read_bytes() == b"new\n" * 25

    def test_does_not_disturb_who_writes(self, log):
        with log.open("ab", buffering=0) as agent:
            agent.write(b"x" * 20)
            rotate(log, max_bytes=10, keep=1)
            agent.write(b"after")
        assert log.read_bytes() == b"after"

    def test_is_left_to_the_one_that_is_at_it(self, log):
        log.write_bytes(b"x" * 20)
        with log.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert not rotate(log, max_bytes=10, keep=1)
        assert rotate(log, max_bytes=10, keep=1)


class TestLineSplitter:
    def test_joins_what_came_in_pieces(self):
        lines = LineSplitter()
        assert lines.feed("你".encode()[:2]) == []
        assert lines.feed("你".encode()[2:] + b"\nnext") == ["你"]
        assert lines.finish() == ["next"]
        assert lines.finish() == []

    def test_removes_control_characters_but_tabs(self):
        assert LineSplitter().feed(b"\x1b[31mred\x00\ta\x7fb\xc2\x9bc\r\n") == ["[31mred\tabc"]

    def test_shows_bytes_that_are_no_text(self):
        assert LineSplitter().feed(b"a\xffb\n") == ["a\ufffdb"]

    def test_cuts_a_line_that_is_too_long_however_it_came(self):
        at_once, in_pieces = LineSplitter(), LineSplitter()
        for _ in range(3):
            assert in_pieces.feed(b"x" * MAX_LINE_BYTES) == []
        expected = ["x" * MAX_LINE_BYTES, "short"]
        assert in_pieces.feed(b"\nshort\n") == expected
        assert at_once.feed(b"x" * MAX_LINE_BYTES * 3 + b"\nshort\n") == expected


class TestTail:
    def test_reads_on_in_older_logs(self, log):
        log.with_name("agent.log.2").write_text("1\n2\n")
        log.with_name("agent.log.1").write_text("3\n4\n")
        log.write_text("5\n")
        assert LogReader(log, keep=2).tail(4) == ["2", "3", "4", "5"]
        assert LogReader(log, keep=2).tail(9) == ["1", "2", "3", "4", "5"]
        assert LogReader(log, keep=2).tail(0) == []

    def test_reads_no_more_than_its_limit(self, log):
        log.write_bytes(b"0123456789\n" * 1_000_000)
        lines = LogReader(log, keep=2).tail(10_000_000)
        assert len(lines) == 10_000
        log.write_bytes(b"x" * 499 + b"\n" + (b"y" * 499 + b"\n") * 100_000)
        lines = LogReader(log, keep=2).tail(10_000)
        assert len(lines) == MAX_TAIL_BYTES // 500
        assert set(lines) == {"y" * 499}

    def test_waits_for_the_end_of_a_line(self, log):
        log.write_text("one\ntw")
        reader = LogReader(log, keep=2)
        assert reader.tail(5) == ["one"]
        with log.open("a") as agent:
            agent.write("o\nthree\n")
        assert reader.more() == ["two", "three"]
        assert reader.more() == []

    def test_goes_on_after_a_rotation(self, log):
        log.write_text("x" * 50 + "\n")
        reader = LogReader(log, keep=2)
        reader.tail(1)
        rotate(log, max_bytes=10, keep=2)
        with log.open("a") as agent:
            agent.write("after\n")
        assert reader.more() == ["after"]


class TestLastLines:
    def test_include_one_without_an_end(self, log):
        log.write_text("one\ntwo\nKilled")
        assert last_lines(log, count=2, keep=2) == ("two", "Killed")

    def test_of_no_log_are_none(self, log):
        assert last_lines(log, count=2, keep=2) == ()
