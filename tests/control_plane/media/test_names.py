"""Names that people gave: fit to show, never a path; and what bytes are, whatever is claimed."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.media import kinds, names, ranges
from control_plane.media.ranges import Unsatisfiable
from tests.control_plane.media.conftest import HTML, PNG, SVG


class TestDisplay:
    @pytest.mark.parametrize(
        ("given_name", "shown"),
        [
            ("photo.png", "photo.png"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            ("C:\\Windows\\win.ini", "win.ini"),
            ("..", "file"),
            ("a/..", "file"),
            ("", "file"),
            ("   ", "file"),
            ("a\0b.png", "ab.png"),
            ("a\r\nset-cookie: x.png", "aset-cookie_ x.png"),
            ("invoice\u202egpj.exe", "invoicegpj.exe"),
            ("NUL", "_NUL"),
            ("com1.txt", "_com1.txt"),
            ("报价单（终稿）.pdf", "报价单（终稿）.pdf"),
            ("e\u0301.png", "é.png"),
            ('a"b;c.png', "a_b_c.png"),
            ("%2e%2e%2fx", "_2e_2e_2fx"),
        ],
    )
    def test_is_the_last_part_without_tricks(self, given_name: str, shown: str) -> None:
        assert names.display(given_name) == shown

    def test_is_cut_before_its_ending(self) -> None:
        shown = names.display("x" * 5000 + ".jpeg")

        assert len(shown) == names.MAX_NAME
        assert shown.endswith("x.jpeg")

    @given(st.text(max_size=300))
    def test_is_always_one_short_part_that_is_seen(self, name: str) -> None:
        shown = names.display(name)

        assert 1 <= len(shown) <= names.MAX_NAME
        assert not re.search(r"[/\\\0\r\n]", shown)
        assert shown not in {".", ".."}
        assert not {"Cc", "Cf", "Cs"} & {unicodedata.category(each) for each in shown}

    @given(st.text(max_size=300))
    def test_makes_a_header_that_ends_where_it_should(self, name: str) -> None:
        header = names.disposition(names.display(name), inline=False)

        assert re.fullmatch(
            r"attachment; filename=\"[A-Za-z0-9 ._()-]+\"; filename\*=UTF-8''[A-Za-z0-9._~%-]+",
            header,
        )


class TestKinds:
    @pytest.mark.parametrize(
        ("head", "kind"),
        [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"\0" * 20, "image/jpeg"),
            (b"GIF89a" + b"\0" * 20, "image/gif"),
            (b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 20, "image/webp"),
            (b"RIFF\x10\0\0\0WAVEfmt " + b"\0" * 20, "audio/wav"),
            (b"#!AMR\n" + b"\0" * 20, "audio/amr"),
            (b"\x02#!SILK_V3" + b"\0" * 20, "audio/silk"),
            (b"ID3\x03" + b"\0" * 20, "audio/mpeg"),
            (b"OggS\0\2" + b"\0" * 30, "application/ogg"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
            (b"\x1aE\xdf\xa3" + b"\0" * 20, "video/webm"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"PK\x03\x04" + b"\0" * 30, "application/zip"),
            (SVG, kinds.UNKNOWN),
            (HTML, kinds.UNKNOWN),
            (b"<?xml version='1.0'?>" + SVG, kinds.UNKNOWN),
            (b"MZ\x90\0" + b"\0" * 60, kinds.UNKNOWN),
            (b"just words", kinds.UNKNOWN),
            (b"", kinds.UNKNOWN),
        ],
    )
    def test_are_told_by_the_bytes(self, head: bytes, kind: str) -> None:
        assert kinds.kind_of(head) == kind

    @given(st.binary(max_size=200))
    def test_are_always_of_the_list(self, head: bytes) -> None:
        kind = kinds.kind_of(head)

        assert kind == kinds.UNKNOWN or kinds.ending(kind) != ".bin"

    def test_that_run_scripts_are_never_shown_inline(self) -> None:
        risky = ("html", "svg", "xml", "pdf", "zip", "javascript", "octet-stream")

        assert not [kind for kind in kinds.INLINE if any(word in kind for word in risky)]


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "part"),
        [
            (None, None),
            ("bytes=0-9", (0, 10)),
            ("bytes=90-", (90, 100)),
            ("bytes=90-500", (90, 100)),
            ("bytes=-10", (90, 100)),
            ("bytes=-500", (0, 100)),
            ("bytes=9-3", None),
            ("bytes=0-1,5-6", None),
            ("bytes=-", None),
            ("pages=1-2", None),
            ("bytes=" + "9" * 40 + "-", None),
        ],
    )
    def test_are_one_part_or_everything(self, header: str | None, part: object) -> None:
        assert ranges.parse(header, 100) == part

    @pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=500-600"])
    def test_outside_are_refused(self, header: str) -> None:
        with pytest.raises(Unsatisfiable):
            ranges.parse(header, 100)
