import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Image,
    Link,
    Location,
    Markdown,
    Ref,
    Reply,
    Text,
    Video,
    Voice,
)
from adapters.qq import outgoing
from adapters.qq.outgoing import (
    MAX_REPLIES,
    MAX_TEXT,
    MAX_UPLOAD_BYTES,
    Anchor,
    Target,
    anchor,
    card_body,
    harmless,
    split,
    target,
)
from adapters.qq.sequences import HIGHEST, Sequences

STORED = Ref(via="media", id="m")
USER = Target("/v2/users/U", "users")
GROUP = Target("/v2/groups/G", "groups")
CHANNEL = Target("/channels/1", "channels")


def told(parts, to=USER):
    return [
        outgoing.said([each for each in part if not isinstance(each, Image)], to) for part in parts
    ]


class TestTarget:
    @pytest.mark.parametrize(
        ("type_", "chat", "path"),
        [
            ("direct", "OPENID", "/v2/users/OPENID"),
            ("group", "G.1!", "/v2/groups/G.1%21"),
            ("channel", "1001", "/channels/1001"),
            ("channel", "dms:1001", "/dms/1001"),
        ],
    )
    def test_each_kind_has_its_own_way(self, type_, chat, path):
        assert target(ConversationKey(type=type_, id=chat)).path == path

    @pytest.mark.parametrize(
        ("type_", "chat"),
        [
            ("direct", ""),
            ("direct", ".."),
            ("direct", "a/b"),
            ("group", "a?b"),
            ("group", "é"),
            ("channel", "x"),
            ("channel", "dms:"),
            ("channel", "dms:../1"),
            ("direct", "x" * 129),
        ],
    )
    def test_what_leads_elsewhere_is_none(self, type_, chat):
        assert target(ConversationKey(type=type_, id=chat)) is None


class TestAnchor:
    def test_a_message_comes_before_an_event(self):
        assert anchor({"event_id": "E", "msg_id": "M"}) == Anchor("msg_id", "M")
        assert anchor({"event_id": "E"}) == Anchor("event_id", "E")
        assert anchor({}) is None


class TestSplit:
    def test_a_picture_takes_the_words_before_it_along(self):
        picture = Image(ref=STORED)
        parts = split([Text(text="看"), At(target="U2"), picture, Text(text="好吗"), picture])
        assert parts == [
            [Text(text="看"), At(target="U2"), picture],
            [Text(text="好吗"), picture],
        ]

    def test_what_stands_alone_is_sent_alone(self):
        parts = split(
            [Text(text="听"), Voice(ref=STORED), Markdown(text="**a**"), File(ref=STORED)]
        )
        assert [type(part[-1]).__name__ for part in parts] == ["Text", "Voice", "Markdown", "File"]

    def test_what_can_be_said_is_said(self):
        parts = split(
            [
                Text(text="来"),
                Face(id="1", text="[微笑]"),
                Location(lat=1, lon=2, title="店"),
                Link(url="https://a", title="t"),
                Voice(transcript="在吗"),
                Card(format="feishu.card", text="卡"),
            ]
        )
        assert parts == [[Text(text="来[微笑]\n店\nt https://a\n在吗\n卡")]]

    def test_what_it_answers_leads_the_first_part(self):
        parts = split([Reply(message_id="m0"), Text(text="a"), Video(ref=STORED)])
        assert [type(part[0]).__name__ for part in parts] == ["Reply", "Video"]

    @pytest.mark.parametrize("segments", [[], [Text(text=" \n")], [Reply(message_id="m")]])
    def test_nothing_to_say_makes_no_part(self, segments):
        assert split(segments) == []

    def test_a_long_text_is_cut_into_as_many_as_there_are_answers(self):
        parts = told(split([Text(text="好" * (MAX_TEXT * 7))]))
        assert [len(part) for part in parts] == [MAX_TEXT] * 4 + [MAX_TEXT * 3]

    def test_pictures_leave_fewer_for_the_words(self):
        picture = Image(ref=STORED)
        parts = split([picture, picture, picture, Text(text="好" * (MAX_TEXT * 5))])
        assert len(parts) == MAX_REPLIES

    def test_a_long_markdown_goes_out_as_text(self):
        [[short], *_] = split([Markdown(text="**a**")])
        assert isinstance(short, Markdown)
        long = split([Markdown(text="a" * (MAX_TEXT + 1))])
        assert [type(part[0]) for part in long] == [Text, Text]

    @given(
        st.lists(
            st.one_of(
                st.builds(Text, text=st.text(max_size=3000)),
                st.builds(At, target=st.from_regex(r"[0-9A-Z]{1,32}", fullmatch=True)),
                st.just(Image(ref=STORED)),
            ),
            max_size=6,
        )
    )
    def test_no_word_is_lost(self, segments):
        parts = split(segments)
        words = "".join(
            part.text if isinstance(part, Text) else f"@{part.target}"
            for part in segments
            if not isinstance(part, Image)
        )
        assert "".join("".join(told(parts)).split()) == "".join(harmless(words).split())
        assert sum(isinstance(each, Image) for part in parts for each in part) == sum(
            isinstance(each, Image) for each in segments
        )


class TestWords:
    @pytest.mark.parametrize(
        "text",
        [
            "<qqbot-at-everyone />",
            "<@!1>",
            "<@all>",
            "<#1>",
            "<emoji:1>",
            "</qqbot-x>",
            '<faceType=1,faceId="1",ext="">',
        ],
    )
    def test_a_text_calls_nobody(self, text):
        for to in (USER, GROUP, CHANNEL):
            assert outgoing.said([Text(text=text)], to) == "\uff1c" + text[1:]
        assert outgoing.markdown_body(text)["markdown"]["content"][0] == "\uff1c"

    def test_other_brackets_stay(self):
        assert harmless("a < b <b> 1<2 <-") == "a < b <b> 1<2 <-"

    def test_a_mention_calls_whom_it_names(self):
        assert outgoing.said([At(target="M1")], GROUP) == '<qqbot-at-user id="M1" />'
        assert outgoing.said([At(target="M1", name="李")], USER) == "@李"
        assert outgoing.said([At(target="all")], CHANNEL) == "<qqbot-at-everyone />"
        assert outgoing.said([At(target="all")], GROUP) == "@all"

    def test_no_mark_is_put_together_of_pieces(self):
        pieces = [Text(text="<"), At(target="all"), Text(text=">")]
        assert outgoing.said(pieces, GROUP) == "\uff1c@all>"

    def test_a_mention_cannot_be_more_than_an_id(self):
        assert outgoing.said([At(target='"><qqbot-at-everyone />')], GROUP) == (
            '@">\uff1cqqbot-at-everyone />'
        )


class TestCards:
    def test_of_the_platforms_own_forms_go_out_as_they_are(self):
        keyboard = {"markdown": {"content": "a"}, "keyboard": {"id": "1"}, "msg_id": "forged"}
        assert card_body(Card(format=outgoing.MARKDOWN, data=json.dumps(keyboard))) == {
            "markdown": {"content": "a"},
            "keyboard": {"id": "1"},
            "msg_type": 2,
        }
        ark = {"ark": {"template_id": 23, "kv": []}}
        assert card_body(Card(format=outgoing.ARK, data=json.dumps(ark)))["msg_type"] == 3

    @pytest.mark.parametrize("data", [None, "", "{", "[]", '{"ark":1}', "{}", "[" * 100_000])
    def test_any_other_is_said(self, data):
        card = Card(format=outgoing.ARK, data=data, text="words")
        assert card_body(card) is None
        assert split([card]) == [[Text(text="words")]]


class TestAddressed:
    def test_guilds_know_neither_numbers_nor_types(self):
        body = outgoing.addressed(
            outgoing.text_body("hi"), CHANNEL, Anchor("msg_id", "M"), 7, quotes="m0"
        )
        reference = {"message_id": "m0", "ignore_get_message_error": True}
        assert body == {"content": "hi", "msg_id": "M", "message_reference": reference}


class TestUploads:
    @pytest.mark.parametrize(
        ("segment", "content_type", "size", "to", "kind"),
        [
            (Image(ref=STORED), "image/png", 10, USER, 1),
            (Image(ref=STORED), "image/webp", 10, USER, 4),
            (Image(ref=STORED), "image/webp", 10, GROUP, None),
            (Image(ref=STORED), "image/png", 0, USER, None),
            (Image(ref=STORED), "image/png", MAX_UPLOAD_BYTES + 1, USER, None),
            (Image(ref=STORED), "image/png", 10, CHANNEL, None),
            (Video(ref=STORED), "video/mp4", 10, GROUP, 2),
            (Voice(ref=STORED), "audio/silk", 10, GROUP, 3),
            (Voice(ref=STORED), "audio/amr", 10, USER, None),
            (File(ref=STORED), "application/pdf", 10, USER, 4),
            (File(ref=STORED), "application/pdf", 10, GROUP, None),
        ],
    )
    def test_falls_back_in_the_written_order(self, segment, content_type, size, to, kind):
        content = Content(body=bytes(size), name="n", content_type=content_type, sha256="0")
        assert outgoing.upload_type(segment, content, to) == kind


class TestErrorClass:
    @pytest.mark.parametrize(
        ("http", "code", "found"),
        [
            (204, 0, "ok"),
            (401, 0, "token_invalid"),
            (429, 0, "rate_limited"),
            (500, 0, "server_busy"),
            (500, 304027, "window_expired"),
            (400, 99, "content_invalid"),
            (401, 11298, "ip_not_allowed"),
        ],
    )
    def test_the_code_says_more_than_the_status(self, http, code, found):
        assert outgoing.error_class(http, code) == found


class TestSequences:
    ANSWERS = Anchor("msg_id", "M")

    @given(st.text(max_size=60))
    def test_a_part_has_the_same_number_again_in_another_process(self, key):
        number = Sequences().of(self.ANSWERS, key)
        assert 1 <= number <= HIGHEST
        assert Sequences().of(self.ANSWERS, key) == number

    def test_two_parts_never_share_one(self, monkeypatch):
        monkeypatch.setattr("adapters.qq.sequences.HIGHEST", 5)
        sequences = Sequences()
        numbers = {sequences.of(self.ANSWERS, f"m:{n}") for n in range(5)}
        assert numbers == {1, 2, 3, 4, 5}

    def test_what_was_refused_gets_another(self):
        sequences = Sequences()
        first = sequences.of(self.ANSWERS, "m:0")
        assert sequences.of(self.ANSWERS, "m:0") == first
        sequences.refused("m:0")
        assert sequences.of(self.ANSWERS, "m:0") != first

    def test_counts_what_was_shown_once_each(self):
        sequences = Sequences()
        for key in ("a", "a", "b"):
            sequences.shown(self.ANSWERS, key)
        assert sequences.count(self.ANSWERS, besides="b") == 1
        assert sequences.count(self.ANSWERS, besides="c") == 2
        assert sequences.count(Anchor("msg_id", "other"), besides="") == 0

    def test_remembers_no_more_than_it_must(self, monkeypatch):
        monkeypatch.setattr("adapters.qq.sequences.MAX_KEPT", 3)
        sequences = Sequences()
        for number in range(9):
            anchor_ = Anchor("msg_id", str(number))
            sequences.of(anchor_, "k")
            sequences.refused(str(number))
            sequences.shown(anchor_, "k")
        assert [len(each) for each in (sequences._used, sequences._refused, sequences._shown)] == [
            3,
            3,
            3,
        ]
