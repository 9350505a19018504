"""Settings of a DingTalk robot."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from adapters.wx_aes import KEY_PATTERN, Envelope

API_URL = "https://api.dingtalk.com"
OAPI_URL = "https://oapi.dingtalk.com"
# No query and no fragment: the paths that are called stay those of the platform.
_URL = r"^https?://[^/?#\s@]+(/[^?#\s]*)?$"


class Settings(BaseModel):
    """One application with a robot (企业内部应用); all come from the developer console."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["stream", "callback"] = Field(
        default="stream",
        description="How messages come: over a connection that we open (Stream 模式), or as calls "
        "to our address (HTTP 模式).",
        json_schema_extra={
            "description_zh": "消息怎么来：Stream 模式由我们连接，HTTP 模式由平台调用我们。"
        },
    )
    client_id: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Client ID (AppKey), under 凭证与基础信息.",
        json_schema_extra={"description_zh": "Client ID（AppKey），在“凭证与基础信息”里。"},
    )
    client_secret: SecretStr = Field(
        min_length=1,
        max_length=200,
        description="Client Secret (AppSecret), beside it.",
        json_schema_extra={"description_zh": "Client Secret（AppSecret），在 Client ID 旁边。"},
    )
    previous_client_secret: SecretStr | None = Field(
        default=None,
        max_length=200,
        description="The secret before a change; callbacks signed with it are still taken.",
        json_schema_extra={"previous_of": "client_secret"},
    )
    robot_code: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="RobotCode, under 机器人; without it the Client ID, as it usually is.",
        json_schema_extra={
            "description_zh": "RobotCode，在“机器人”里；不填则用 Client ID，通常两者相同。"
        },
    )
    token: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="签名 token, under 事件订阅 with HTTP 推送: only for encrypted callbacks.",
        json_schema_extra={
            "description_zh": "签名 token，在“事件订阅”的 HTTP 推送里：只有加密的回调才需要。"
        },
    )
    encoding_aes_key: SecretStr | None = Field(
        default=None,
        description="加密 aes_key, beside it: 43 letters and digits.",
        json_schema_extra={
            "description_zh": "加密 aes_key，在 token 旁边：43 位字母和数字。",
            "pattern": KEY_PATTERN,
        },
    )
    previous_token: SecretStr | None = Field(
        default=None,
        max_length=64,
        description="The token before a change of keys.",
        json_schema_extra={"previous_of": "token"},
    )
    previous_encoding_aes_key: SecretStr | None = Field(
        default=None,
        description="The aes_key before a change of keys.",
        json_schema_extra={"previous_of": "encoding_aes_key", "pattern": KEY_PATTERN},
    )
    api_url: str = Field(
        default=API_URL,
        pattern=_URL,
        max_length=500,
        description="Where the platform's API is; another one for a private deployment.",
        json_schema_extra={"description_zh": "平台接口的地址；专有部署时才需要改。"},
    )
    oapi_url: str = Field(
        default=OAPI_URL,
        pattern=_URL,
        max_length=500,
        description="Where its older API is: uploads, and the addresses for replies.",
        json_schema_extra={"description_zh": "旧版接口的地址：用于上传和回复。"},
    )

    @field_validator("encoding_aes_key", "previous_encoding_aes_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(KEY_PATTERN, value.get_secret_value()):
            raise ValueError("the console's aes_key has 43 letters and digits")
        return value

    @field_validator("api_url", "oapi_url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @model_validator(mode="after")
    def _has_both_keys_or_none(self) -> "Settings":
        if (self.token is None) != (self.encoding_aes_key is None):
            raise ValueError("token and encoding_aes_key belong together")
        return self

    @property
    def robot(self) -> str:
        """What the platform knows the robot by."""
        return self.robot_code or self.client_id

    @property
    def secrets(self) -> list[str]:
        """What signs callbacks: as it is now, then as it was."""
        both = (self.client_secret, self.previous_client_secret)
        return [each.get_secret_value() for each in both if each is not None]

    @property
    def envelopes(self) -> list[Envelope]:
        """What seals and opens encrypted callbacks: as it is now, then as it was."""
        if self.token is None or self.encoding_aes_key is None:
            return []
        pairs = [(self.token, self.encoding_aes_key)]
        if self.previous_token is not None or self.previous_encoding_aes_key is not None:
            # The console changes either alone, or both.
            before = self.previous_encoding_aes_key or self.encoding_aes_key
            pairs.append((self.previous_token or self.token, before))
        return [
            Envelope(
                token=token.get_secret_value(),
                encoding_aes_key=key.get_secret_value(),
                receive_id=self.client_id,
            )
            for token, key in pairs
        ]
