"""Settings of a OneBot v11 client."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator


class Settings(BaseModel):
    """One QQ account; the client connects to us, or each calls the other over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    self_id: str = Field(
        pattern=r"^[0-9]{1,20}$",
        description="QQ number of the account that the client runs.",
        json_schema_extra={"description_zh": "客户端登录的 QQ 号。"},
    )
    access_token: SecretStr = Field(
        min_length=1,
        max_length=200,
        description="The token that is entered in the client, too; make up a long one.",
        json_schema_extra={"description_zh": "与客户端里填的令牌相同；请自拟一个足够长的。"},
    )
    previous_access_token: SecretStr | None = Field(
        default=None,
        max_length=200,
        description="The token before a change; a client that shows it is still let in.",
        json_schema_extra={"previous_of": "access_token"},
    )
    transport: Literal["reverse_websocket", "http"] = Field(
        default="reverse_websocket",
        description="Whether the client opens a WebSocket to us, or each calls the other by HTTP.",
        json_schema_extra={
            "description_zh": "客户端用 WebSocket 连接我们，还是双方用 HTTP 互相调用。"
        },
    )
    signature_secret: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="HTTP only: what signs the client's calls, where that is not the token.",
        json_schema_extra={"description_zh": "仅 HTTP：给客户端的调用签名；与令牌相同时不用填。"},
    )
    api_url: str = Field(
        default="",
        # No query and no fragment: what is called stays the client's API.
        pattern=r"^(https?://[^/?#\s@]+(/[^?#\s]*)?)?$",
        max_length=500,
        validate_default=True,
        description="HTTP only: where the client's API can be called.",
        json_schema_extra={"description_zh": "仅 HTTP：客户端接口的地址。"},
    )

    spacing_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Seconds between two of the account's messages, whoever gets them: QQ bans "
        "accounts that write fast.",
        json_schema_extra={
            "description_zh": "该账号两条消息之间的秒数，不论发给谁：发得太快会被 QQ 封号。"
        },
    )

    @field_validator("access_token", "previous_access_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        plain = "" if value is None else value.get_secret_value()
        if not (plain.isascii() and all("!" <= sign <= "~" for sign in plain)):
            raise ValueError("letters, digits and signs only")
        return value

    @field_validator("api_url")
    @classmethod
    def _is_there_for_http(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("transport") == "http" and not value:
            raise ValueError("the client's API is called there, so HTTP needs it")
        return value

    @property
    def tokens(self) -> list[str]:
        """What a client may show: the token as it is, then as it was."""
        found = (self.access_token, self.previous_access_token)
        return [each.get_secret_value() for each in found if each is not None]

    @property
    def signing(self) -> list[str]:
        """What may have signed a client's call."""
        if self.signature_secret is not None:
            return [self.signature_secret.get_secret_value()]
        return self.tokens
