"""Settings of an AI bot of WeCom."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from adapters.wx_aes import KEY_PATTERN, Envelope

API_URL = "https://qyapi.weixin.qq.com"
WEBSOCKET_URL = "wss://openws.work.weixin.qq.com"
# A bot of the company itself: nobody's id stands in the envelope.
_RECEIVE_ID = ""


class Settings(BaseModel):
    """One bot (智能机器人), under API 模式: 使用长连接 or 使用 URL 回调."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["long_connection", "callback"] = Field(
        default="long_connection",
        description="How its messages come: as the console's API 模式 says.",
        json_schema_extra={"description_zh": "消息怎么来：与后台的“API 模式”一致。"},
    )
    bot_id: str = Field(
        default="",
        validate_default=True,
        max_length=128,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Bot ID. The long connection needs it; with callbacks it is checked if given.",
        json_schema_extra={"description_zh": "Bot ID。长连接必填；用回调时填了就会核对。"},
    )
    secret: SecretStr | None = Field(
        default=None,
        validate_default=True,
        max_length=200,
        description="Long connection: the Secret beside the Bot ID.",
        json_schema_extra={"description_zh": "长连接：Bot ID 旁边的 Secret。"},
    )
    token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        max_length=64,
        description="Callback: the Token, which signs.",
        json_schema_extra={"description_zh": "回调：Token，用于签名。"},
    )
    encoding_aes_key: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="Callback: the EncodingAESKey, 43 letters and digits.",
        json_schema_extra={
            "description_zh": "回调：EncodingAESKey，43 位字母和数字。",
            "pattern": KEY_PATTERN,
        },
    )
    previous_token: SecretStr | None = Field(
        default=None,
        max_length=64,
        description="The Token before a change of keys; callbacks signed with it are still taken.",
        json_schema_extra={"previous_of": "token"},
    )
    previous_encoding_aes_key: SecretStr | None = Field(
        default=None,
        description="The EncodingAESKey before a change of keys.",
        json_schema_extra={"previous_of": "encoding_aes_key", "pattern": KEY_PATTERN},
    )
    waiting_text: str = Field(
        default="…",
        max_length=200,
        description="Shown at once under a question, until the answer takes its place; empty for "
        "nothing.",
        json_schema_extra={"description_zh": "提问后立即显示，直到答案取代它；留空则不显示。"},
    )
    greeting: str = Field(
        default="",
        max_length=500,
        description="Said when somebody opens the talk for the first time that day.",
        json_schema_extra={"description_zh": "有人当天第一次打开对话时说的话。"},
    )
    websocket_url: str = Field(
        default=WEBSOCKET_URL,
        pattern=r"^wss?://[^/?#\s@]+(/[^?#\s]*)?$",
        max_length=500,
        description="Where the long connection goes; another one for a private deployment.",
        json_schema_extra={"description_zh": "长连接的地址；私有部署时才需要改。"},
    )
    base_url: str = Field(
        default=API_URL,
        pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$",
        max_length=500,
        description="Where late answers to callbacks go; nothing is sent elsewhere.",
        json_schema_extra={"description_zh": "迟到的回调答复发往的地址；不会发到别处。"},
    )

    @field_validator("bot_id", "secret")
    @classmethod
    def _opens_the_long_connection(
        cls, value: str | SecretStr | None, info: ValidationInfo
    ) -> str | SecretStr | None:
        if info.data.get("transport") == "long_connection" and not _plain(value):
            raise ValueError("the long connection needs it")
        return value

    @field_validator("token", "encoding_aes_key")
    @classmethod
    def _opens_callbacks(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("transport") == "callback" and not _plain(value):
            raise ValueError("callbacks need it")
        return value

    @field_validator("encoding_aes_key", "previous_encoding_aes_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(KEY_PATTERN, value.get_secret_value()):
            raise ValueError("the console's EncodingAESKey has 43 letters and digits")
        return value

    @field_validator("websocket_url", "base_url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @property
    def envelopes(self) -> list[Envelope]:
        """What seals and opens callbacks, as it is now, then as it was; none without callbacks."""
        if self.transport != "callback" or self.token is None or self.encoding_aes_key is None:
            return []
        now = _envelope(self.token, self.encoding_aes_key)
        if self.previous_token is None and self.previous_encoding_aes_key is None:
            return [now]
        # The console changes either alone, or both.
        before = _envelope(
            self.previous_token or self.token,
            self.previous_encoding_aes_key or self.encoding_aes_key,
        )
        return [now, before]


def _plain(value: str | SecretStr | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""


def _envelope(token: SecretStr, key: SecretStr) -> Envelope:
    return Envelope(
        token=token.get_secret_value(),
        encoding_aes_key=key.get_secret_value(),
        receive_id=_RECEIVE_ID,
    )
