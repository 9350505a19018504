"""Settings of a WeCom application, and what all that a company runs at WeCom has in common."""

import re
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from adapters.wx_aes import KEY_PATTERN, Envelope

API_URL = "https://qyapi.weixin.qq.com"


class Company(BaseModel):
    """One secret of a company, and the keys of the address that WeCom calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corp_id: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="企业 ID, under 我的企业.",
        json_schema_extra={"description_zh": "企业 ID，在“我的企业”里。"},
    )
    secret: SecretStr = Field(
        min_length=1,
        max_length=200,
        description="Secret of the application.",
        json_schema_extra={"description_zh": "应用的 Secret。"},
    )
    token: SecretStr = Field(
        min_length=1,
        max_length=64,
        description="Token, under 接收消息: signs callbacks.",
        json_schema_extra={"description_zh": "Token，在“接收消息”里：给回调签名。"},
    )
    encoding_aes_key: SecretStr = Field(
        description="EncodingAESKey, under 接收消息: 43 letters and digits.",
        json_schema_extra={
            "description_zh": "EncodingAESKey，在“接收消息”里：43 位字母和数字。",
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
    base_url: str = Field(
        default=API_URL,
        # No query and no fragment: the paths that are called stay those of the platform.
        pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$",
        max_length=500,
        description="Where the platform's API is; another one for a private deployment.",
        json_schema_extra={"description_zh": "平台接口的地址；私有部署时才需要改。"},
    )

    @field_validator("encoding_aes_key", "previous_encoding_aes_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(KEY_PATTERN, value.get_secret_value()):
            raise ValueError("the console's EncodingAESKey has 43 letters and digits")
        return value

    @field_validator("base_url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @property
    def envelopes(self) -> list[Envelope]:
        """What seals and opens callbacks: as it is now, then as it was."""
        now = self._envelope(self.token, self.encoding_aes_key)
        if self.previous_token is None and self.previous_encoding_aes_key is None:
            return [now]
        # The console changes either alone, or both.
        before = self._envelope(
            self.previous_token or self.token,
            self.previous_encoding_aes_key or self.encoding_aes_key,
        )
        return [now, before]

    def _envelope(self, token: SecretStr, key: SecretStr) -> Envelope:
        return Envelope(
            token=token.get_secret_value(),
            encoding_aes_key=key.get_secret_value(),
            receive_id=self.corp_id,
        )


class Settings(Company):
    """One self-built application (自建应用); all but greeting and address come from the console."""

    agent_id: int = Field(
        gt=0,
        lt=2**31,
        description="AgentId of the application.",
        json_schema_extra={"description_zh": "应用的 AgentId。"},
    )
    greeting: str = Field(
        default="",
        max_length=500,
        description="Answered when somebody gets the application for the first time.",
        json_schema_extra={"description_zh": "有人第一次进入应用时的回复。"},
    )
