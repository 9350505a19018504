import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import wx_xml
from adapters.simulators.wecom_seal import elements
from adapters.wx_aes import Sealed
from adapters.wx_xml import MAX_BYTES, XmlError, read

BOMB = b'<!DOCTYPE xml [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><xml><T>&b;</T></xml>'
FILE = b'<!DOCTYPE xml [<!ENTITY f SYSTEM "file:///etc/passwd">]><xml><T>&f;</T></xml>'
# What XML can carry, but for the carriage return, which its rules turn into a line feed.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
)


class TestRead:
    def test_takes_the_texts_right_below_the_root(self):
        body = "<xml><A><![CDATA[你好]]></A><B>7</B><C><D>deep</D></C><E/></xml>".encode()
        assert read(body) == {"A": "你好", "B": "7", "C": "", "E": ""}

    @given(st.binary(max_size=300))
    def test_never_fails_in_another_way(self, body):
        with contextlib.suppress(XmlError):
            read(body)

    @pytest.mark.parametrize("body", [BOMB, FILE, b"<!DOCTYPE xml><xml/>"])
    def test_a_document_type_is_refused(self, body):
        with pytest.raises(XmlError):
            read(body)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"<html/>",
            b"<xml>",
            b'<?xml version="1.0" encoding="klingon"?><xml/>',
            b"<xml>" + b" " * MAX_BYTES + b"</xml>",
        ],
    )
    def test_anything_else_is_refused(self, body):
        with pytest.raises(XmlError):
            read(body)

    def test_a_deep_document_does_no_harm(self):
        assert read(b"<xml>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</xml>") == {"a": ""}


class TestWrite:
    @given(TEXT)
    def test_is_read_as_it_was(self, text):
        assert read(wx_xml.write({"T": text, "N": 7}).encode()) == {"T": text, "N": "7"}

    def test_a_mapping_is_one_more_level(self):
        written = wx_xml.write({"Image": {"MediaId": "m"}})
        assert written == "<xml><Image><MediaId><![CDATA[m]]></MediaId></Image></xml>"

    def test_a_sealed_reply_has_four_elements(self):
        sealed = Sealed(encrypt="a+/=", signature="f0", timestamp="7", nonce="n")
        assert elements(wx_xml.sealed(sealed)) == {
            "Encrypt": "a+/=",
            "MsgSignature": "f0",
            "TimeStamp": "7",
            "Nonce": "n",
        }
