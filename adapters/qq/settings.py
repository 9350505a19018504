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

    app_id: str = Field(
        pattern=r"^[0-9]{1,20}$",
        description="AppID (机器人ID) of the bot.",
        json_schema_extra={"description_zh": "机器人的 AppID（机器人ID）。"},
    )
    secret: SecretStr = Field(
        min_length=1,
        max_length=200,
        description="AppSecret (机器人密钥).",
        json_schema_extra={"description_zh": "AppSecret（机器人密钥）。"},
    )
    transport: Literal["webhook", "gateway"] = Field(
        default="webhook",
        description="How messages come: calls to our address (webhook, recommended), or a "
        "connection that the bot keeps open (gateway).",
        json_schema_extra={
            "description_zh": "消息怎么来：平台调用我们（webhook，推荐），或保持连接（gateway）。"
        },
    )
    guilds: bool = Field(
        default=False,
        description="Gateway only: hear guild channels (频道) too; the bot must be allowed to.",
        json_schema_extra={"description_zh": "仅 gateway：也接收频道消息；机器人须有此权限。"},
    )
    buttons: bool = Field(
        default=False,
        description="Gateway only: hear buttons under messages; the bot must be allowed to.",
        json_schema_extra={
            "description_zh": "仅 gateway：接收消息下方按钮的点击；机器人须有此权限。"
        },
    )
    greeting: str = Field(
        default="",
        max_length=500,
        description="Said when somebody adds the bot as a friend.",
        json_schema_extra={"description_zh": "有人添加机器人为好友时说的话。"},
    )
    base_url: str = Field(
        default=API_URL,
        pattern=_URL,
        max_length=500,
        description="Where the platform's API is; its sandbox is https://sandbox.api.sgroup.qq.com.",
        json_schema_extra={
            "description_zh": "平台接口的地址；沙箱是 https://sandbox.api.sgroup.qq.com。"
        },
    )
    login_url: str = Field(
        default=LOGIN_URL,
        pattern=_URL,
        max_length=500,
        description="Where access tokens come from.",
        json_schema_extra={"description_zh": "获取访问令牌的地址。"},
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
