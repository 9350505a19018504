"""Feishu's callbacks, frames and contents, with lark-oapi on the other side."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from adapters.feishu import callback, codec, frames, outgoing
from adapters.feishu.codec import Said
from adapters.feishu.frames import Frame, FrameError
from adapters.feishu.settings import Settings
from adapters.model import (
    At,
    BusinessCard,
    Card,
    Face,
    File,
    Image,
    Link,
    Location,
    Markdown,
    RawCallback,
    Rejected,
    Segment,
    Sticker,
    Text,
    Video,
    Voice,
)
from adapters.simulators import feishu_wire
from tests.peers.place import PeerError, Peers

NOW = 1_755_850_000
KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789", min_size=1, max_size=40)
IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=40)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
# Without what stands for a mention, and something to see.
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="@\0"), max_size=80
).filter(str.strip)
FEW = settings(max_examples=25, deadline=None)


def event(
    kind: str = "text", content: str = '{"text":"hi"}', **changes: object
) -> dict[str, object]:
    message = {
        "message_id": "om_1",
        "chat_id": "oc_1",
        "chat_type": "group",
        "message_type": kind,
        "create_time": "1609073151345",
        "content": content,
    }
    sender = {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}
    return {"sender": sender, "message": message | changes}


def payload(happened: object, token: str = "") -> bytes:
    header = {
        "event_id": "e1",
        "event_type": codec.MESSAGE_EVENT,
        "create_time": str(NOW * 1000),
        "token": token,
        "app_id": "cli_1",
        "tenant_key": "t",
    }
    return json.dumps({"schema": "2.0", "header": header, "event": happened}).encode()


def call(body: bytes, encrypt_key: str, nonce: str = "n1") -> RawCallback:
    sealed = json.dumps({"encrypt": feishu_wire.close(encrypt_key, body)}).encode()
    headers = {
        "x-lark-request-timestamp": str(NOW),
        "x-lark-request-nonce": nonce,
        "x-lark-signature": feishu_wire.signature(str(NOW), nonce, encrypt_key, sealed),
    }
    return RawCallback(
        method="POST", path="/", query="", headers=headers, body=sealed, received_at=NOW
    )


def ask(
    peers: Peers, request: RawCallback, encrypt_key: str, token: str
) -> dict[str, list[object]]:
    headers = {name.title(): value for name, value in request.headers.items()}
    return peers.ask(
        "feishu_callback",
        encrypt_key=encrypt_key,
        token=token,
        headers=headers,
        body=request.body.decode(),
    )


def ours(request: RawCallback, encrypt_key: str, token: str) -> callback.Opened | Rejected:
    application = Settings.model_validate(
        {
            "transport": "callback",
            "app_id": "cli_1",
            "app_secret": "s",
            "verification_token": token,
            "encrypt_key": encrypt_key,
        }
    )
    return callback.unseal(request, application, now=NOW)


def said(happened: object) -> Said:
    found = codec.decode(payload(happened), app_id="cli_1", bot_open_id="ou_bot")
    assert isinstance(found, Said), found
    return found


class TestACallback:
    @FEW
    @given(encrypt_key=KEYS, token=KEYS, nonce=KEYS, text=ANY)
    def test_is_opened_by_both(self, peers: Peers, encrypt_key, token, nonce, text):
        body = payload(event(content=json.dumps({"text": text})), token)
        request = call(body, encrypt_key, nonce)
        opened = ours(request, encrypt_key, token)
        theirs = ask(peers, request, encrypt_key, token)
        assert isinstance(opened, callback.Opened)
        assert opened.message == body
        assert theirs["status"] == 200
        assert theirs["said"][0]["content"]["text"] == text

    @pytest.mark.parametrize(
        ("encrypt_key", "token"), [("other", "token"), ("key", "other")], ids=["key", "token"]
    )
    def test_with_another_secret_is_refused_by_both(self, peers: Peers, encrypt_key, token):
        request = call(payload(event(), token), encrypt_key)
        assert isinstance(ours(request, "key", "token"), Rejected)
        assert ask(peers, request, "key", "token")["status"] == 500

    @FEW
    @given(at=st.integers(0, 100), bit=st.integers(0, 7))
    def test_with_one_bit_turned_is_refused_by_both(self, peers: Peers, at, bit):
        request = call(payload(event(), "token"), "key")
        sealed = bytearray(base64.b64decode(json.loads(request.body)["encrypt"]))
        sealed[at] ^= 1 << bit
        body = json.dumps({"encrypt": base64.b64encode(sealed).decode()}).encode()
        turned = RawCallback(
            method="POST", path="/", query="", headers=request.headers, body=body, received_at=NOW
        )
        assert isinstance(ours(turned, "key", "token"), Rejected)
        assert ask(peers, turned, "key", "token")["status"] == 500

    def test_that_checks_the_address_is_answered_alike(self, peers: Peers):
        check = {"type": "url_verification", "token": "token", "challenge": "c-1"}
        request = call(json.dumps(check).encode(), "key")
        opened = ours(request, "key", "token")
        assert isinstance(opened, callback.Opened)
        answer = callback.challenge_answer(opened.challenge or "").body
        theirs = ask(peers, request, "key", "token")["body"]
        assert json.loads(answer) == json.loads(str(theirs)) == {"challenge": "c-1"}


NUMBERS = st.integers(0, 2**64 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FRAMES = st.builds(
    Frame,
    seq_id=NUMBERS,
    log_id=NUMBERS,
    service=INT32,
    method=INT32,
    headers=st.lists(st.tuples(ANY, ANY), max_size=6).map(tuple),
    payload_encoding=ANY,
    payload_type=ANY,
    payload=st.binary(max_size=300),
    log_id_new=ANY,
)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def fields(frame: Frame) -> dict[str, object]:
    named = {name: getattr(frame, name) for name in Frame.__struct_fields__}
    headers = [list(pair) for pair in frame.headers]
    return {**named, "headers": headers, "payload": coded(frame.payload)}


class TestAFrame:
    @settings(max_examples=60, deadline=None)
    @given(frame=FRAMES)
    def test_is_the_same_both_ways(self, peers: Peers, frame):
        theirs = peers.ask("feishu_frame_encode", **fields(frame))
        assert frames.decode(base64.b64decode(theirs)) == frame
        assert peers.ask("feishu_frame_decode", data=coded(frames.encode(frame))) == fields(frame)

    @FEW
    @given(frame=FRAMES, cut=st.integers(1, 40))
    def test_that_ends_too_early_is_none_to_either(self, peers: Peers, frame, cut):
        # Within its payload, which is the last field here: at a field's end it would be a frame.
        whole = frames.encode(replace(frame, payload=b"x" * 60, log_id_new=""))
        with pytest.raises(FrameError):
            frames.decode(whole[:-cut])
        with pytest.raises(PeerError):
            peers.ask("feishu_frame_decode", data=coded(whole[:-cut]))

    @FEW
    @given(service=st.integers(0, 2**31 - 1))
    def test_that_asks_for_life_is_the_same_to_the_byte(self, peers: Peers, service):
        ping = peers.ask("feishu_ping", service=service)
        assert frames.encode(frames.ping(service)) == base64.b64decode(ping)

    def test_with_an_event_is_acknowledged_alike(self, peers: Peers):
        names = (("message_id", "m1"), ("trace_id", "t1"), ("sum", "1"), ("seq", "0"))
        headers = (("type", "event"), *names)
        frame = Frame(
            seq_id=7, service=3, method=frames.DATA, headers=headers, payload=payload(event())
        )
        data = coded(frames.encode(frame))
        theirs = frames.decode(base64.b64decode(peers.ask("feishu_frame_answer", data=data)))
        took = theirs.header("biz_rt")
        body = json.loads(theirs.payload)
        assert body["code"] == 200
        assert theirs == frames.answer(frame, theirs.payload, took_ms=int(took))


KINDS = {
    "text": st.fixed_dictionaries({"text": WORDS}),
    "image": st.fixed_dictionaries({"image_key": IDS}),
    "file": st.fixed_dictionaries({"file_key": IDS, "file_name": WORDS}),
    "audio": st.fixed_dictionaries({"file_key": IDS, "duration": st.integers(0, 600_000)}),
    "media": st.fixed_dictionaries(
        {
            "file_key": IDS,
            "image_key": IDS,
            "file_name": WORDS,
            "duration": st.integers(0, 600_000),
        }
    ),
    "sticker": st.fixed_dictionaries({"file_key": IDS}),
    "share_chat": st.fixed_dictionaries({"chat_id": IDS}),
    "share_user": st.fixed_dictionaries({"user_id": IDS}),
    "location": st.fixed_dictionaries(
        {
            "name": WORDS,
            "longitude": st.floats(-180, 180).map(str),
            "latitude": st.floats(-90, 90).map(str),
        }
    ),
}


def meaning(segment: Segment) -> dict[str, object]:
    """A segment in the peer's names."""
    match segment:
        case Text():
            return {"text": segment.text}
        case Image(ref=ref):
            return {"image_key": ref.id}
        case File(ref=ref):
            return {"file_key": ref.id, "file_name": segment.name}
        case Voice(ref=ref) if ref:
            return {"file_key": ref.id, "duration_ms": segment.duration_ms}
        case Video(ref=ref, thumb=thumb) if thumb:
            shown = {"image_key": thumb.id, "duration_ms": segment.duration_ms}
            return {"file_key": ref.id, "file_name": segment.name, **shown}
        case Sticker(ref=ref) if ref:
            return {"file_key": ref.id}
        case BusinessCard(contact_type="group"):
            return {"chat_id": segment.id}
        case BusinessCard():
            return {"user_id": segment.id}
        case Location():
            return {"latitude": segment.lat, "longitude": segment.lon, "name": segment.title}
    raise AssertionError(segment)


class TestAMessage:
    @settings(max_examples=60, deadline=None)
    @given(
        found=st.sampled_from(sorted(KINDS)).flatmap(lambda k: st.tuples(st.just(k), KINDS[k])),
        chat_type=st.sampled_from(["p2p", "group"]),
        ids=st.tuples(IDS, IDS),
        at=st.integers(0, 2**41),
        mentioned=st.lists(st.sampled_from(["ou_bot", "ou_2", "ou_3"]), max_size=3, unique=True),
    )
    def test_says_the_same_to_both(self, peers: Peers, found, chat_type, ids, at, mentioned):
        kind, content = found
        changes = {
            "message_id": ids[0],
            "chat_id": ids[1],
            "chat_type": chat_type,
            "create_time": str(at),
            "mentions": [
                {"key": f"@_user_{n}", "id": {"open_id": each}, "name": "x"}
                for n, each in enumerate(mentioned, 1)
            ],
        }
        happened = event(kind, json.dumps(content), **changes)
        [theirs] = ask(peers, call(payload(happened, "token"), "key"), "key", "token")["said"]
        message = said(happened).message
        assert message.message_id == theirs["message_id"]
        assert message.conversation.id == theirs["chat_id"]
        assert (message.conversation.type == "direct") == (theirs["chat_type"] == "p2p")
        assert round(message.occurred_at * 1000) == int(theirs["create_time"])
        assert message.sender.id == theirs["sender"]
        assert message.mentions_bot == (chat_type == "p2p" or theirs["mentions_bot"])
        [segment] = message.segments
        told = meaning(segment)
        assert told == {name: theirs["content"][name] for name in told}

    @FEW
    @given(
        title=WORDS,
        paragraphs=st.lists(
            st.lists(
                st.fixed_dictionaries({"tag": st.just("text"), "text": WORDS})
                | st.fixed_dictionaries({"tag": st.just("a"), "text": WORDS, "href": IDS})
                | st.fixed_dictionaries({"tag": st.just("emotion"), "emoji_type": IDS})
                | st.fixed_dictionaries({"tag": st.just("at"), "user_id": IDS, "user_name": WORDS}),
                min_size=1,
                max_size=4,
            ),
            min_size=1,
            max_size=4,
        ),
    )
    def test_of_many_parts_says_the_same_to_both(self, peers: Peers, title, paragraphs):
        form = {"zh_cn": {"title": title, "content": paragraphs}}
        theirs = peers.ask("feishu_content", kind="post", content=json.dumps(form))
        found = said(event("post", json.dumps(form))).message.segments
        assert "".join(map(in_their_words, found)) == f"{theirs['title']}\n{theirs['text']}"


def in_their_words(segment: Segment) -> str:
    match segment:
        case Text():
            return segment.text
        case Link():
            return segment.title or segment.url
        case Face():
            return f":{segment.id}:"
        case At():
            return f"@{segment.name or segment.target}"
    raise AssertionError(segment)


def read(made: outgoing.Message | None) -> dict[str, object]:
    assert made is not None
    return {"msg_type": made.type, "content": json.loads(made.content)}


def built(peers: Peers, name: str, **given: object) -> dict[str, object]:
    theirs = peers.ask("feishu_built", name=name, **given)
    return theirs | {"content": json.loads(theirs["content"])}


class TestWhatWeSend:
    # What the platform would interpret makes a post of ours, and plain text of the SDK's.
    plain = WORDS.filter(lambda text: not any(m in text for m in outgoing._INTERPRETED))

    @FEW
    @given(text=plain)
    def test_of_words_has_the_sdks_form(self, peers: Peers, text):
        assert read(outgoing.message([Text(text=text)])) == built(peers, "text", text=text)

    @FEW
    @given(text=plain, target=IDS, name=st.text("张三Tom ", min_size=1, max_size=8))
    def test_with_a_mention_has_the_sdks_form(self, peers: Peers, text, target, name):
        ours = outgoing.message([At(target=target, name=name), Text(text=f" {text}")])
        mentions = [{"open_id": target, "display_name": name}]
        assert read(ours) == built(peers, "text", text=text, mentions=mentions)

    @FEW
    @given(key=IDS)
    def test_of_media_has_the_sdks_form(self, peers: Peers, key):
        ref = Image(ref=said(event("image", '{"image_key":"k"}')).message.segments[0].ref).ref
        for kind, name, segment in (
            ("image", "image", Image(ref=ref)),
            ("opus", "audio", Voice(ref=ref)),
            ("mp4", "video", Video(ref=ref)),
            ("stream", "file", File(ref=ref)),
        ):
            given = {f"{'image' if kind == 'image' else 'file'}_key": key}
            ours = outgoing.media_message(kind, key, segment)
            assert read(ours) == built(peers, name, **given)

    @FEW
    @given(id_=IDS)
    def test_of_contacts_has_the_sdks_form(self, peers: Peers, id_):
        group = outgoing.message([BusinessCard(contact_type="group", id=id_)])
        user = outgoing.message([BusinessCard(contact_type="user", id=id_)])
        assert read(group) == built(peers, "share_chat", chat_id=id_)
        assert read(user) == built(peers, "share_user", user_id=id_)

    @FEW
    @given(text=WORDS)
    def test_as_the_sdks_card_stays_that_card(self, peers: Peers, text):
        card = peers.ask("feishu_card", markdown=text)
        ours = outgoing.message([Card(format=codec.CARD, data=json.dumps(card))])
        assert read(ours) == built(peers, "card", card=card)

    @FEW
    @given(text=WORDS)
    def test_in_markdown_shows_the_element_that_the_sdk_shows(self, peers: Peers, text):
        ours = read(outgoing.message([Markdown(text=text)]))["content"]
        theirs = peers.ask("feishu_card", markdown=text)
        assert ours["elements"] == theirs["body"]["elements"]

    @FEW
    @given(lines=st.lists(plain.filter(lambda t: "\n" not in t), min_size=1, max_size=3), href=IDS)
    def test_with_a_link_is_read_there_as_we_meant_it(self, peers: Peers, lines, href):
        text = "\n".join(lines)
        link = Link(url=f"https://example.com/{href}", title="here")
        made = outgoing.message([Text(text=text), link])
        assert made is not None
        theirs = peers.ask("feishu_content", kind=made.type, content=made.content)
        assert theirs["text"] == f"{text}here"
