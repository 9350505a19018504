"""What people get to see of what a platform sent: where it was strange, without secrets, cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dingtalk import codec as dingtalk
from adapters.feishu import codec as feishu
from adapters.http import codec as http
from adapters.model import Image, Inbound, Ref, Reply, Text, Unsupported
from adapters.onebot import codec as onebot
from adapters.qq import codec as qq
from adapters.qq.callback import Call
from adapters.raw import MASK, MAX_RAW, kept
from adapters.wecom import codec as wecom
from adapters.wecom_aibot import messages as wecom_aibot
from adapters.wecom_kf import codec as wecom_kf

STRANGE = [Unsupported(platform_type="vote")]


class TestKept:
    def test_is_nothing_where_all_was_carried(self) -> None:
        picture = Image(ref=Ref(via="media", id="1"))

        assert kept([Text(text="hello"), picture], {"secret": 1}) == ""

    @pytest.mark.parametrize(
        "segments",
        [STRANGE, [Text(text="a"), *STRANGE], [Reply(quoted=[Text(text="b"), *STRANGE])]],
    )
    def test_is_what_came_where_something_was_strange(self, segments: Any) -> None:
        assert json.loads(kept(segments, {"type": "vote", "n": [1, None]})) == {
            "type": "vote",
            "n": [1, None],
        }

    @pytest.mark.parametrize("sent", ['{"type": "投票"}', b'{"type": "\xe6\x8a\x95\xe7\xa5\xa8"}'])
    def test_reads_what_was_not_read_yet(self, sent: Any) -> None:
        assert kept(STRANGE, sent) == '{"type": "投票"}'

    @pytest.mark.parametrize(
        "name",
        [
            "token",
            "access_token",
            "AccessToken",
            "appSecret",
            "sessionWebhook",
            "response_url",
            "EncodingAESKey",
            "api_key",
            "password",
            "downloadCode",
        ],
    )
    def test_has_no_secrets(self, name: str) -> None:
        shown = kept(STRANGE, {"a": [{name: "hush", "text": "said"}]})

        assert json.loads(shown) == {"a": [{name: MASK, "text": "said"}]}

    def test_looks_through_json_within_json(self) -> None:
        inner = json.dumps({"card": json.dumps({"token": "hush", "title": "t"})})

        assert json.loads(kept(STRANGE, {"content": inner})) == {
            "content": {"card": {"token": MASK, "title": "t"}}
        }

    def test_has_no_keys_that_are_in_addresses(self) -> None:
        sent = {"url": "https://example.com/f?rkey=hush&x=1", "text": "see https://a.b/c#hush ok"}

        assert json.loads(kept(STRANGE, sent)) == {
            "url": f"https://example.com/f?{MASK}",
            "text": f"see https://a.b/c?{MASK} ok",
        }

    @pytest.mark.parametrize(
        "sent",
        [
            {"text": "x" * 1_000_000},
            {"many": ["x" * 100] * 100_000},
            {f"n{n}": "x" * 1000 for n in range(1000)},
        ],
    )
    def test_is_cut(self, sent: Any) -> None:
        assert len(kept(STRANGE, sent)) <= MAX_RAW

    def test_of_what_is_too_deep_ends(self) -> None:
        deep: Any = "end"
        for _ in range(500):
            deep = {"in": deep}

        assert "…" in kept(STRANGE, deep)
        assert kept(STRANGE, b"[" * 200_000) == ""

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_of_anything_is_text_that_can_be_sent(self, sent: Any) -> None:
        shown = kept(STRANGE, sent)

        assert len(shown.encode()) <= 4 * MAX_RAW


WECOM = b"""<xml><ToUserName>a</ToUserName><FromUserName>u1</FromUserName>
<CreateTime>1700000000</CreateTime><MsgType>vote</MsgType><MsgId>1</MsgId><AgentID>1</AgentID>
<Token>hush</Token><Topic>lunch</Topic></xml>"""
WECOM_KF = {
    "msgid": "1",
    "open_kfid": "kf1",
    "external_userid": "c1",
    "send_time": 1700000000,
    "origin": 3,
    "msgtype": "vote",
    "vote": {"topic": "lunch", "token": "hush"},
}
AIBOT = {
    "msgid": "1",
    "aibotid": "b",
    "chattype": "single",
    "from": {"userid": "u1"},
    "response_url": "https://example.com/hush",
    "msgtype": "vote",
    "vote": {"topic": "lunch"},
}
ONEBOT = {
    "post_type": "message",
    "message_type": "private",
    "self_id": 10001,
    "user_id": 10002,
    "message_id": 5,
    "time": 1700000000,
    "sender": {"nickname": "Lin"},
    "message": [{"type": "vote", "data": {"topic": "lunch", "token": "hush"}}],
}
QQ = {
    "id": "m1",
    "author": {"user_openid": "u1"},
    "content": "",
    "timestamp": "2023-11-14T22:13:20+08:00",
    "attachments": [{"content_type": "vote", "filename": "lunch", "token": "hush"}],
}
FEISHU = {
    "header": {"event_id": "e1", "event_type": "im.message.receive_v1", "app_id": "cli_a"},
    "event": {
        "sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"},
        "message": {
            "message_id": "om_1",
            "chat_id": "oc_1",
            "chat_type": "p2p",
            "message_type": "vote",
            "create_time": "1700000000000",
            "content": '{"topic": "lunch", "token": "hush"}',
        },
    },
}
DINGTALK = {
    "conversationId": "c1",
    "msgId": "m1",
    "msgtype": "vote",
    "createAt": 1700000000000,
    "senderStaffId": "u1",
    "sessionWebhook": "https://example.com/hush",
    "vote": {"topic": "lunch"},
}
HTTP = {
    "type": "message.received",
    "id": "1",
    "conversation": {"type": "direct", "id": "c"},
    "sender": {"id": "u1"},
    "segments": [{"type": "vote", "topic": "lunch", "token": "hush"}],
}


def encoded(fields: Any) -> bytes:
    return json.dumps(fields).encode()


class TestCodecs:
    @pytest.mark.parametrize(
        "decoded",
        [
            pytest.param(wecom.decode(WECOM), id="wecom"),
            pytest.param(wecom_kf.decode(encoded(WECOM_KF)), id="wecom_kf"),
            pytest.param(wecom_aibot.decode(encoded(AIBOT), at=0), id="wecom_aibot"),
            pytest.param(onebot.decode(ONEBOT), id="onebot"),
            pytest.param(qq.decode(Call(t="C2C_MESSAGE_CREATE", d=QQ)), id="qq"),
            pytest.param(
                feishu.decode(encoded(FEISHU), app_id="cli_a", bot_open_id="ou_b"), id="feishu"
            ),
            pytest.param(dingtalk.decode(encoded(DINGTALK)), id="dingtalk"),
            pytest.param(http.decode(encoded(HTTP), received_at=0), id="http"),
        ],
    )
    def test_tell_what_came_and_no_secret(self, decoded: Any) -> None:
        message: Inbound = getattr(decoded, "message", decoded)

        assert any(isinstance(each, Unsupported) for each in message.segments), decoded
        assert "lunch" in message.raw
        assert MASK in message.raw
        assert "hush" not in message.raw
