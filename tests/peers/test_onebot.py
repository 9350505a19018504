"""OneBot's messages and events, with NoneBot's adapter on the other side."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.model import At, ConversationKey, Face, Image, Inbound, Ref, Reply, Segment, Text
from adapters.onebot import codec, cq, outgoing
from tests.peers.place import Peers

SELF = 10_001_000
IDS = st.integers(100_000, 2_000_000_000).filter(lambda number: number != SELF)
FEW = settings(max_examples=40, deadline=None)
# Signs that codes are made of come often.
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("[]&,=;#49CQ:"), max_size=40
)
TEXTS = WORDS.filter(bool).map(lambda text: {"type": "text", "data": {"text": text}})
CODES = st.one_of(
    st.fixed_dictionaries({"type": st.just("face"), "data": st.fixed_dictionaries({"id": IDS})}),
    st.fixed_dictionaries({"type": st.just("at"), "data": st.fixed_dictionaries({"qq": IDS})}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["image", "share", "json"]),
            "data": st.dictionaries(st.sampled_from(["file", "url", "data", "title"]), WORDS),
        }
    ),
)


def of_words(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With texts for numbers, as a string has them, and texts side by side as one."""
    found: list[dict[str, Any]] = []
    for each in segments:
        data = {name: str(value) for name, value in each["data"].items()}
        if each["type"] == "text" and found and found[-1]["type"] == "text":
            data = {"text": found.pop()["data"]["text"] + data["text"]}
        found.append({"type": each["type"], "data": data})
    return found


class TestCodes:
    @FEW
    @given(message=st.lists(TEXTS | CODES, max_size=6))
    def test_what_either_writes_the_other_reads(
        self, peers: Peers, message: list[dict[str, Any]]
    ) -> None:
        theirs = peers.ask("onebot_write", segments=message)
        ours = cq.build(message)
        assert ours == theirs
        assert cq.parse(theirs) == of_words(message)
        assert of_words(peers.ask("onebot_parse", message=ours)) == of_words(message)

    @FEW
    @given(words=WORDS)
    def test_what_is_typed_by_a_person_never_becomes_a_code(self, peers: Peers, words: str) -> None:
        written = outgoing.message([Text(text=words)], in_group=True)
        parsed = peers.ask("onebot_parse", message=written)
        assert [each["type"] for each in parsed] == ["text"] * bool(words)
        assert "".join(each["data"]["text"] for each in parsed) == words


class TestOutgoing:
    def test_segments_are_what_they_take(self, peers: Peers) -> None:
        said: list[Segment] = [
            Reply(message_id="7"),
            At(target="100000"),
            Text(text="早上[九点] & 周末, 也开"),
            Face(id="178"),
            Image(ref=Ref(via="media", id="m")),
        ]
        written = outgoing.message(said, in_group=True, media="base64://aGk=")
        assert peers.ask("onebot_parse", message=written) == written
        assert [each["type"] for each in written] == ["reply", "at", "text", "face", "image"]


class TestEvents:
    @FEW
    @given(
        user=IDS,
        group=st.none() | IDS,
        number=st.integers(-(2**31), 2**31 - 1),
        at=st.integers(0, 2**32),
        words=WORDS.filter(str.strip),
        name=st.sampled_from(["", "林"]),
    )
    def test_are_heard_alike(
        self,
        peers: Peers,
        user: int,
        group: int | None,
        number: int,
        at: int,
        words: str,
        name: str,
    ) -> None:
        message = [
            {"type": "at", "data": {"qq": str(SELF)}},
            {"type": "text", "data": {"text": words}},
        ]
        event = {
            "post_type": "message",
            "message_type": "private" if group is None else "group",
            "sub_type": "friend" if group is None else "normal",
            "self_id": SELF,
            "user_id": user,
            "time": at,
            "message_id": number,
            "message": message,
            "raw_message": cq.build(message),
            "font": 0,
            "sender": {"user_id": user, "nickname": "Lin", "card": name},
        } | ({} if group is None else {"group_id": group, "anonymous": None})

        theirs = peers.ask("onebot_event", event=event)
        ours = codec.decode(event)

        assert isinstance(ours, Inbound)
        place = ConversationKey(
            type="direct" if group is None else "group", id=str(user if group is None else group)
        )
        assert (ours.conversation, ours.sender.id) == (place, theirs["user"])
        assert (theirs["class"], theirs["group"]) == (
            "PrivateMessageEvent" if group is None else "GroupMessageEvent",
            group,
        )
        assert (ours.message_id, ours.occurred_at) == (str(theirs["id"]), theirs["time"])
        said = "".join(each.text for each in ours.segments if isinstance(each, Text))
        assert said == theirs["text"]
        card, nickname = theirs["names"]
        assert ours.sender.name == (card if group is not None and card else nickname)
