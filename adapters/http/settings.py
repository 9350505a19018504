"""Settings of a tenant's own system."""

import base64
import binascii
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

# Standard Webhooks asks for 24 to 64 bytes.
_KEY_BYTES = range(24, 65)
_PREFIX = "whsec_"


class Settings(BaseModel):
    """One system that a tenant connects by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        pattern=r"^https?://[^/?#\s@]+(/[^#\s]*)?$",
        max_length=2000,
        description="Where the bot's messages are posted.",
        json_schema_extra={"description_zh": "机器人的消息会发到这个地址。"},
    )
    secret: SecretStr = Field(
        max_length=120,
        description="Signs both ways: `whsec_` and 24 to 64 random bytes in base64.",
        json_schema_extra={
            "description_zh": "双向签名用：whsec_ 加上 24 至 64 个随机字节的 base64。"
        },
    )
    previous_secret: SecretStr | None = Field(
        default=None,
        max_length=120,
        description="The secret before a change: what comes may still be signed with it, and "
        "what goes is signed with both.",
        json_schema_extra={"previous_of": "secret"},
    )

    @field_validator("secret", "previous_secret")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_key(value.get_secret_value()):
            raise ValueError("the secret is whsec_ and 24 to 64 bytes in base64")
        return value

    @field_validator("url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @property
    def secrets(self) -> list[str]:
        """As it is now, then as it was."""
        both = (self.secret, self.previous_secret)
        return [each.get_secret_value() for each in both if each is not None]


def _is_key(text: str) -> bool:
    if not text.startswith(_PREFIX):
        return False
    try:
        return len(base64.b64decode(text.removeprefix(_PREFIX), validate=True)) in _KEY_BYTES
    except (binascii.Error, ValueError):
        return False
