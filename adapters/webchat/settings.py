"""Settings of a web-chat channel."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

# As browsers write it: a scheme, a host in its ASCII form, a port that is not the usual one.
Origin = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        max_length=300,
        pattern=r"^https?://([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?(:[0-9]{1,5})?$",
    ),
]


class Settings(BaseModel):
    """A web-chat channel; everything has a default, since we host the platform ourselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(
        default="",
        max_length=80,
        description="Heading of the chat window.",
        json_schema_extra={"description_zh": "聊天窗口的标题。"},
    )
    greeting: str = Field(
        default="",
        max_length=500,
        description="Shown before the visitor's first message.",
        json_schema_extra={"description_zh": "访客发出第一条消息之前显示。"},
    )
    accent: str | None = Field(
        default=None,
        pattern=r"^#[0-9a-fA-F]{6}$",
        description="Colour of the heading and of the visitor's messages, such as #0f766e.",
        json_schema_extra={"description_zh": "标题栏和访客消息的颜色，例如 #0f766e。"},
    )
    allowed_origins: list[Origin] = Field(
        default_factory=list,
        max_length=50,
        description="Sites that may show the chat, such as https://shop.example; none: all may.",
        json_schema_extra={
            "description_zh": "可以显示聊天窗口的网站，例如 https://shop.example；不填则不限。"
        },
    )
    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        max_length=500,
        description="Where the chat platform is; by default the agent's own control plane.",
        json_schema_extra={"description_zh": "聊天平台的地址；默认就是机器人所连的控制台。"},
    )
    secret: SecretStr = Field(
        min_length=32,
        description="Signs callbacks and authorises sends.",
        json_schema_extra={"generated": True},
    )
