"""WeCom's envelope and messages, with wechatpy on the other side."""

import base64
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import wx_xml
from adapters.model import File, Image, Inbound, Link, Location, Text, Video, Voice
from adapters.simulators.wecom_seal import elements
from adapters.wecom import codec
from adapters.wx_aes import Envelope, EnvelopeError
from tests.peers.place import PeerError, Peers

KEYS = st.binary(min_size=32, max_size=32).map(lambda key: base64.b64encode(key).decode()[:43])
NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789_-", min_size=1, max_size=32)
DIGITS = st.integers(0, 2**40).map(str)
# What XML carries, and no line end that its readers change.
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=200
)
FEW = settings(max_examples=25, deadline=None)


def envelope(address: tuple[str, str, str]) -> Envelope:
    token, key, corp_id = address
    return Envelope(token=token, encoding_aes_key=key, receive_id=corp_id)


class TestTheEnvelope:
    @FEW
    @given(
        address=st.tuples(NAMES, KEYS, NAMES),
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
        at=st.tuples(DIGITS, NAMES),
        random16=st.binary(min_size=16, max_size=16),
    )
    def test_that_we_close_is_opened_there(self, peers: Peers, address, message, at, random16):
        timestamp, nonce = at
        sealed = envelope(address).seal(
            message.encode(), timestamp=timestamp, nonce=nonce, random16=random16
        )
        opened = peers.ask(
            "wecom_open",
            address=address,
            body=wx_xml.sealed(sealed).decode(),
            signature=sealed.signature,
            timestamp=timestamp,
            nonce=nonce,
        )
        echoed = peers.ask(
            "wecom_echo",
            address=address,
            echo=sealed.encrypt,
            signature=sealed.signature,
            timestamp=timestamp,
            nonce=nonce,
        )
        assert opened == echoed == message

    @FEW
    @given(address=st.tuples(NAMES, KEYS, NAMES), message=WORDS, at=st.tuples(DIGITS, NAMES))
    def test_that_it_closes_is_opened_here(self, peers: Peers, address, message, at):
        timestamp, nonce = at
        body = peers.ask(
            "wecom_seal", address=address, message=message, nonce=nonce, timestamp=timestamp
        )
        fields = wx_xml.read(body.encode())
        assert fields == elements(body.encode())
        opened = envelope(address).open(
            signature=fields["MsgSignature"],
            timestamp=fields["TimeStamp"],
            nonce=fields["Nonce"],
            encrypt=fields["Encrypt"],
        )
        assert opened.decode() == message

    @FEW
    @given(
        address=st.tuples(NAMES, KEYS, NAMES),
        other=st.tuples(NAMES, KEYS, NAMES),
        random16=st.binary(min_size=16, max_size=16),
    )
    def test_of_another_company_is_refused_by_both(self, peers: Peers, address, other, random16):
        if address == other:
            return
        sealed = envelope(other).seal(b"x", timestamp="1", nonce="n", random16=random16)
        given = {"signature": sealed.signature, "timestamp": "1", "nonce": "n"}
        with pytest.raises(EnvelopeError):
            envelope(address).open(encrypt=sealed.encrypt, **given)
        with pytest.raises(PeerError):
            peers.ask("wecom_echo", address=address, echo=sealed.encrypt, **given)


IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=40)
# It takes white space around a text away; see `test_only_we_keep_...`.
TRIMMED = WORDS.map(str.strip).filter(bool)
ADDRESSES = IDS.map(lambda path: f"https://example.com/{path}?a=1&b=2")
KINDS = {
    "text": {"Content": TRIMMED},
    "image": {"PicUrl": ADDRESSES, "MediaId": IDS},
    "voice": {"MediaId": IDS, "Format": st.sampled_from(["amr", "silk"]), "Recognition": TRIMMED},
    "video": {"MediaId": IDS, "ThumbMediaId": IDS},
    "link": {"Title": TRIMMED, "Description": TRIMMED, "Url": ADDRESSES, "PicUrl": ADDRESSES},
    "location": {
        "Location_X": st.floats(-90, 90).map(lambda x: f"{x:.6f}"),
        "Location_Y": st.floats(-180, 180).map(lambda y: f"{y:.6f}"),
        "Scale": st.just("16"),
        "Label": TRIMMED,
    },
}
MESSAGES = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "ToUserName": IDS,
            "FromUserName": IDS,
            "CreateTime": st.integers(0, 2**32).map(str),
            "MsgType": st.just(kind),
            "MsgId": st.integers(1, 2**63 - 1).map(str),
            "AgentID": st.integers(1, 2**31 - 1).map(str),
            **KINDS[kind],
        }
    )
)


def written(fields: dict[str, str], *, quoted: bool) -> str:
    return (
        wx_xml.write(fields)
        if quoted
        else "<xml>"
        + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        + "</xml>"
    )


class TestAMessage:
    @settings(max_examples=60, deadline=None)
    @given(fields=MESSAGES, quoted=st.booleans())
    def test_says_the_same_to_both(self, peers: Peers, fields, quoted):
        xml = written(fields, quoted=quoted)
        theirs = peers.ask("wecom_parse", message=xml)
        ours = codec.decode(xml.encode())
        assert isinstance(ours, Inbound)
        assert (theirs["type"], theirs["source"]) == (fields["MsgType"], ours.sender.id)
        assert str(theirs["id"]) == ours.message_id
        assert str(theirs["agent"]) == ours.app["agent_id"]
        assert theirs["time"] == ours.occurred_at
        [segment] = ours.segments
        assert meaning(segment) == {name: theirs[name] for name in meaning(segment)}

    def test_of_a_file_is_known_to_us_alone(self, peers: Peers):
        fields = {"MsgType": "file", "FromUserName": "u", "MsgId": "1", "CreateTime": "7"}
        xml = wx_xml.write(fields | {"MediaId": "m", "FileName": "a.pdf"})
        found = codec.decode(xml.encode())
        assert isinstance(found, Inbound)
        assert isinstance(found.segments[0], File)
        assert peers.ask("wecom_parse", message=xml)["type"] == "unknown"

    def test_keeps_the_spaces_around_its_words_here_alone(self, peers: Peers):
        fields = {"MsgType": "text", "FromUserName": "u", "MsgId": "1", "CreateTime": "7"}
        xml = wx_xml.write(fields | {"Content": "  def f():\n  "})
        found = codec.decode(xml.encode())
        assert isinstance(found, Inbound)
        assert found.segments == [Text(text="  def f():\n  ")]
        assert peers.ask("wecom_parse", message=xml)["content"] == "def f():"


def meaning(segment: object) -> dict[str, object]:
    """A segment in the peer's names."""
    match segment:
        case Text():
            return {"content": segment.text}
        case Image(ref=ref):
            return {"media_id": ref.id, "image": ref.more["url"]}
        case Voice(ref=ref) if ref:
            heard = {"format": segment.format, "recognition": segment.transcript}
            return {"media_id": ref.id, **heard}
        case Video(ref=ref, thumb=thumb) if thumb:
            return {"media_id": ref.id, "thumb_media_id": thumb.id}
        case Link():
            shown = {"title": segment.title, "description": segment.desc}
            return {"url": segment.url, "pic_url": segment.image, **shown}
        case Location():
            place = {"location_x": f"{segment.lat:.6f}", "location_y": f"{segment.lon:.6f}"}
            return {**place, "label": segment.title}
    raise AssertionError(segment)
