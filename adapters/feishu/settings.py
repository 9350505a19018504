"""Settings of a Feishu or Lark application."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from adapters.feishu.sealing import Keys

API_URL = "https://open.feishu.cn"


class Settings(BaseModel):
    """One self-built application (企业自建应用) with a bot; the secrets come from its console."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["long_connection", "callback"] = Field(
        default="long_connection",
        description="How messages come: 长连接, or 将事件发送至开发者服务器.",
        json_schema_extra={"description_zh": "消息怎么来：长连接，或将事件发送至开发者服务器。"},
    )
    app_id: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="App ID, under 凭证与基础信息.",
        json_schema_extra={"description_zh": "App ID，在“凭证与基础信息”里。"},
    )
    app_secret: SecretStr = Field(
        min_length=1,
        max_length=200,
        description="App Secret, under 凭证与基础信息.",
        json_schema_extra={"description_zh": "App Secret，在“凭证与基础信息”里。"},
    )
    verification_token: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        validate_default=True,
        description="Verification Token, under 加密策略; callbacks need it.",
        json_schema_extra={"description_zh": "Verification Token，在“加密策略”里；用回调时必填。"},
    )
    encrypt_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Encrypt Key, under 加密策略: signs and encrypts callbacks.",
        json_schema_extra={"description_zh": "Encrypt Key，在“加密策略”里：给回调签名并加密。"},
    )
    previous_verification_token: SecretStr | None = Field(
        default=None,
        max_length=200,
        description="The Verification Token before it was changed; still taken.",
        json_schema_extra={"previous_of": "verification_token"},
    )
    previous_encrypt_key: SecretStr | None = Field(
        default=None,
        max_length=200,
        description="The Encrypt Key before it was changed.",
        json_schema_extra={"previous_of": "encrypt_key"},
    )
    base_url: str = Field(
        default=API_URL,
        # No query and no fragment: the paths that are called stay those of the platform.
        pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$",
        max_length=500,
        description="https://open.feishu.cn, or https://open.larksuite.com for Lark.",
        json_schema_extra={
            "description_zh": "飞书是 https://open.feishu.cn，Lark 是 https://open.larksuite.com。"
        },
    )

    @field_validator("verification_token")
    @classmethod
    def _callbacks_need_it(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("transport") == "callback":
            raise ValueError("callbacks cannot be told from forgeries without it")
        return value

    @field_validator("base_url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @property
    def keys(self) -> list[Keys]:
        """What callbacks are checked with: as it is now, then as it was."""
        now = _keys(self.verification_token, self.encrypt_key)
        if self.previous_verification_token is None and self.previous_encrypt_key is None:
            return [now]
        # The console changes either alone, or both.
        before = _keys(
            self.previous_verification_token or self.verification_token,
            self.previous_encrypt_key or self.encrypt_key,
        )
        return [now, before]


def _keys(token: SecretStr | None, encrypt_key: SecretStr | None) -> Keys:
    return Keys(
        token=token.get_secret_value() if token else "",
        encrypt_key=encrypt_key.get_secret_value() if encrypt_key else "",
    )
