"""Settings of a QQ bot."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

API_URL = "https://api.sgroup.qq.com"
LOGIN_URL = "https://bots.qq.com"

# No query and no fragment: the paths that are called stay those of the platform.
_URL = r"^https?://[^/?#\s@]+(/[^?#\s]*)?$"

# What a bot may ask to hear over the gateway, in the platform's bits.
_DIRECT_AND_GROUPS = 1 << 25
_BUTTONS = 1 << 26
_GUILDS = (1 << 30) | (1 << 12)


class Settings(BaseModel):
    """One bot of the QQ open platform; the first three come from its console."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_id: str = Field(pattern=r"^[0-9]{1,20}$", description="AppID (机器人ID) of the bot.")
    secret: SecretStr = Field(min_length=1, max_length=200, description="AppSecret (机器人密钥).")
    transport: Literal["webhook", "gateway"] = Field(
        default="webhook",
        description="How messages come: calls to our address (webhook, recommended), or a "
        "connection that the bot keeps open (gateway).",
    )
    guilds: bool = Field(
        default=False,
        description="Gateway only: hear guild channels (频道) too; the bot must be allowed to.",
    )
    buttons: bool = Field(
        default=False,
        description="Gateway only: hear buttons under messages; the bot must be allowed to.",
    )
    greeting: str = Field(
        default="", max_length=500, description="Said when somebody adds the bot as a friend."
    )
    base_url: str = Field(
        default=API_URL,
        pattern=_URL,
        max_length=500,
        description="Where the platform's API is; its sandbox is https://sandbox.api.sgroup.qq.com.",
    )
    login_url: str = Field(
        default=LOGIN_URL,
        pattern=_URL,
        max_length=500,
        description="Where access tokens come from.",
    )

    @field_validator("base_url", "login_url")
    @classmethod
    def _has_a_port_that_can_be(cls, value: str) -> str:
        if urlsplit(value).port == 0:
            raise ValueError("nobody listens on port 0")
        return value

    @property
    def intents(self) -> int:
        """What the gateway is asked for; asking for more than the bot may hear ends it."""
        buttons = _BUTTONS if self.buttons else 0
        return _DIRECT_AND_GROUPS | buttons | (_GUILDS if self.guilds else 0)
