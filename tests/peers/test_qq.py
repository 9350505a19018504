"""QQ's key, signatures and messages, with PyNaCl and botpy on the other side."""

import base64
import json
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.model import File, Image, Inbound, Reply, Text, Video, Voice
from adapters.qq import callback, signing
from adapters.qq.callback import Call
from adapters.qq.codec import decode
from tests.peers.place import Peers

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
IDS = st.text("ABCDEF0123456789_-", min_size=1, max_size=40)
# Without what stands for a face or a mention, and without white space that we take away.
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>@"), max_size=80
).map(str.strip)
FEW = settings(max_examples=25, deadline=None)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class TestTheKey:
    @FEW
    @given(secret=SECRETS)
    def test_that_comes_from_a_secret_is_the_same(self, peers: Peers, secret):
        assert peers.ask("qq_public_key", secret=secret) == coded(signing.public_key(secret))


class TestASignature:
    @FEW
    @given(secret=SECRETS, message=st.binary(max_size=300))
    def test_of_either_side_holds_on_the_other(self, peers: Peers, secret, message):
        ours = signing.sign(secret, message).hex()
        theirs = peers.ask("qq_sign", secret=secret, message=coded(message))
        assert ours == theirs
        assert signing.holds(signing.public_key(secret), message, theirs)
        assert peers.ask("qq_holds", secret=secret, message=coded(message), signature=ours)

    @FEW
    @given(
        secret=SECRETS,
        message=st.binary(min_size=1, max_size=100),
        bit=st.integers(0, 8 * 64 - 1),
    )
    def test_with_one_bit_turned_holds_on_neither(self, peers: Peers, secret, message, bit):
        turned = bytearray(signing.sign(secret, message))
        turned[bit // 8] ^= 1 << bit % 8
        assert not signing.holds(signing.public_key(secret), message, turned.hex())
        assert not peers.ask(
            "qq_holds", secret=secret, message=coded(message), signature=turned.hex()
        )


ATTACHMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "content_type": st.sampled_from(["image/png", "video/mp4", "file", "voice"]),
            "filename": IDS.map(lambda name: f"{name}.bin"),
            "url": IDS.map(lambda path: f"https://multimedia.nt.qq.com.cn/download?fileid={path}"),
            "size": st.integers(0, 2**31),
        }
    ),
    max_size=3,
)
PLACES = {
    "C2C_MESSAGE_CREATE": ("user_openid", None, "direct"),
    "GROUP_AT_MESSAGE_CREATE": ("member_openid", "group_openid", "group"),
    "AT_MESSAGE_CREATE": ("id", "channel_id", "channel"),
}
SEGMENTS = {"image/png": Image, "video/mp4": Video, "file": File, "voice": Voice}


class TestAMessage:
    @settings(max_examples=60, deadline=None)
    @given(
        event=st.sampled_from(sorted(PLACES)),
        ids=st.tuples(IDS, IDS, IDS, IDS),
        quotes=st.none() | IDS,
        content=WORDS,
        at=st.integers(0, 2**32),
        attachments=ATTACHMENTS,
    )
    def test_says_the_same_to_both(
        self, peers: Peers, event, ids, quotes, content, at, attachments
    ):
        message_id, sender, place, event_id = ids
        name, where, type_ = PLACES[event]
        said = {
            "id": message_id,
            "author": {name: sender},
            "content": content,
            "timestamp": datetime.fromtimestamp(at, UTC).isoformat(),
            "attachments": attachments,
        }
        said |= {where: place} if where else {}
        said |= {"message_reference": {"message_id": quotes}} if quotes else {}
        dispatch = {"op": 0, "s": 1, "t": event, "id": event_id, "d": said}
        theirs = peers.ask("qq_parse", dispatch=json.dumps(dispatch))
        call = callback.read(json.dumps(dispatch).encode())
        assert isinstance(call, Call)
        ours = decode(call)
        assert isinstance(ours, Inbound)
        assert call.id == theirs["event_id"]
        assert ours.message_id == theirs["id"]
        assert theirs["author"] == {name: ours.sender.id}
        assert ours.conversation.type == type_
        assert ours.conversation.id == (theirs["place"] if where else sender)
        assert datetime.fromisoformat(theirs["timestamp"]).timestamp() == ours.occurred_at
        expected = [Reply(message_id=theirs["quotes"])] if theirs["quotes"] else []
        expected += [Text(text=theirs["content"])] if theirs["content"] else []
        assert ours.segments[: len(expected)] == expected
        media = [(type(each), each.ref.id) for each in ours.segments[len(expected) :]]
        assert media == [
            (SEGMENTS[each["content_type"]], each["url"]) for each in theirs["attachments"]
        ]
