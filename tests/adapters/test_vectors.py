"""The runner of vector files, on files made by the stand-in platform and by us."""

import json
from typing import Any

import pytest

from adapters import vectors
from adapters.simulators.wecom_seal import Seal

KEY = "NkFJSACJrnUk/Qq2wBZArzSACcQOpxdWZbeURqgtGtk"
PLATFORM = Seal("Tk9xYz", KEY, "ww1")
ADDRESS = {"token": "Tk9xYz", "encoding_aes_key": KEY, "receiveid": "ww1"}
TEXT = (
    "<xml><ToUserName>ww1</ToUserName><FromUserName>u</FromUserName><CreateTime>7</CreateTime>"
    "<MsgType>text</MsgType><Content>hi</Content><MsgId>1</MsgId><AgentID>2</AgentID></xml>"
)


def query(encrypt: str) -> dict[str, str]:
    signature = PLATFORM.signature("1409659813", "n", encrypt)
    return {"msg_signature": signature, "timestamp": "1409659813", "nonce": "n"}


def url_verify(echo: str) -> dict[str, Any]:
    encrypt = PLATFORM.close(echo.encode())
    return {
        "kind": "url_verify",
        "input": ADDRESS | {"query": query(encrypt) | {"echostr": encrypt}},
        "expect": {"status": 200, "body": echo},
    }


def decrypt(plain: str, **changes: str) -> dict[str, Any]:
    encrypt = PLATFORM.close(plain.encode())
    body = f"<xml><Encrypt>{encrypt}</Encrypt></xml>"
    given = ADDRESS | {"query": query(encrypt) | changes, "body": body}
    return {"kind": "decrypt_xml", "input": given, "expect": {"plaintext": plain}}


def decrypt_json(plain: str) -> dict[str, Any]:
    encrypt = PLATFORM.close(plain.encode())
    body = json.dumps({"tousername": "ww1", "encrypt": encrypt, "agentid": 218})
    given = ADDRESS | {"query": query(encrypt), "body": body}
    return {"kind": "decrypt_json", "input": given, "expect": {"plaintext": plain}}


def rejected(vector: dict[str, Any]) -> dict[str, Any]:
    return vector | {"kind": "reject", "expect": {"accept": False}}


def inbound(**normalized: Any) -> dict[str, Any]:
    given = {"transport": "app_callback_xml", "payload": TEXT}
    return {"kind": "inbound", "input": given, "expect": {"normalized": normalized}}


def kf_sync_item(row: dict[str, Any], **normalized: Any) -> dict[str, Any]:
    head = {"msgid": "m1", "open_kfid": "wk1", "external_userid": "wm1", "send_time": 7}
    given = {"transport": "kf_sync_msg", "item": head | row}
    return {"kind": "kf_sync_item", "input": given, "expect": {"normalized": normalized}}


KF_TEXT = {"origin": 3, "msgtype": "text", "text": {"content": "hi"}}
KF_ENTERED = {
    "origin": 4,
    "msgtype": "event",
    "event": {"event_type": "enter_session", "external_userid": "wm1", "welcome_code": "c"},
}


def errcode(code: int, error_class: str, action: str) -> dict[str, Any]:
    expect = {"class": error_class, "action": action}
    return {"kind": "errcode", "input": {"api": "qyapi", "errcode": code}, "expect": expect}


GOOD = [
    url_verify("1616140317555161061"),
    decrypt(TEXT),
    decrypt(""),
    decrypt_json('{"MsgType": "text"}'),
    rejected(decrypt(TEXT, nonce="another")),
    inbound(kind="message", segments=[{"type": "text", "text": "hi"}], app={"agent_id": "2"}),
    errcode(42001, "token_expired", "refresh_token_once"),
    kf_sync_item(KF_TEXT, kind="message", segments=[{"type": "text", "text": "hi"}]),
    kf_sync_item(KF_TEXT | {"origin": 5}, kind="echo"),
    kf_sync_item(KF_TEXT | {"msgid": ""}, kind="dropped"),
    kf_sync_item(KF_ENTERED, kind="notice", welcome_code="c", welcome_deadline_s=20),
]
BAD = [
    url_verify("1") | {"expect": {"status": 200, "body": "2"}},
    decrypt_json("{}") | {"expect": {"plaintext": "another"}},
    decrypt(TEXT) | {"expect": {"plaintext": "another"}},
    rejected(decrypt(TEXT)),
    inbound(kind="message", segments=[]),
    inbound(kind="notice"),
    errcode(42001, "rate_limited", "backoff"),
    kf_sync_item(KF_TEXT, kind="message", segments=[]),
    {"kind": "kf_paging", "input": {}, "expect": {}},
]


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command line on one file of vectors; (exit code, what it said)."""

    def run(found: list[dict[str, Any]], platform: str = "wecom") -> tuple[int, str]:
        numbered = [vector | {"id": f"v{index}"} for index, vector in enumerate(found)]
        content = {"platform": platform, "format": 1, "vectors": numbered}
        (tmp_path / "vectors.json").write_text(json.dumps(content))
        return vectors.main([str(tmp_path)]), capsys.readouterr().out

    return run


class TestRunner:
    def test_counts_what_passed(self, run):
        assert run(GOOD) == (0, f"{len(GOOD)} passed, 0 failed\n")

    @pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["kind"])
    def test_names_what_failed(self, run, vector):
        code, said = run([GOOD[0], vector])
        assert code == 1
        assert said.startswith(f"failed  v1 {vector['kind']}")
        assert said.endswith("1 passed, 1 failed\n")

    def test_a_platform_that_is_not_built_fails(self, run):
        assert run(GOOD[:1], platform="telex")[1].endswith("0 passed, 1 failed\n")

    def test_asks_for_a_folder(self, capsys):
        assert vectors.main([]) == 2
        assert "DIR" in capsys.readouterr().out


EVENT = {
    "time": 7,
    "self_id": 1,
    "post_type": "message",
    "message_type": "private",
    "message_id": 2,
    "user_id": 3,
    "message": "[CQ:face,id=4]",
}
ONEBOT = [
    {
        "kind": "ws_auth",
        "input": {
            "access_token": "tok",
            "headers": {"Authorization": "Bearer tok", "X-Self-ID": "1"},
        },
        "expect": {"accept": True, "self_id": "1", "role": "universal"},
    },
    {
        "kind": "inbound",
        "input": {"payload": EVENT},
        "expect": {"normalized": {"kind": "message", "segments": [{"type": "face", "id": "4"}]}},
    },
    {
        "kind": "api",
        "input": {
            "recv": {"status": "failed", "retcode": 1404, "data": None, "echo": "e"},
            "awaiting": "e",
        },
        "expect": {"error": "unsupported_action"},
    },
    {
        "kind": "cq_build",
        "input": {"array": [{"type": "text", "data": {"text": "[x]"}}]},
        "expect": {"text": "&#91;x&#93;"},
    },
]


class TestOneBot:
    def test_what_is_right_passes(self, run):
        assert run(ONEBOT, platform="onebot11")[0] == 0

    @pytest.mark.parametrize(
        "vector",
        [
            ONEBOT[0] | {"expect": {"accept": False, "status": 403}},
            ONEBOT[1] | {"expect": {"normalized": {"kind": "meta"}}},
            ONEBOT[2] | {"expect": {"message_id": "1"}},
            ONEBOT[3] | {"expect": {"text": "[x]"}},
        ],
        ids=lambda vector: vector["kind"],
    )
    def test_what_is_wrong_fails(self, run, vector):
        assert run([vector], platform="onebot11")[0] == 1
