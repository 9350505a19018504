"""Settings of a web-chat channel."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Settings(BaseModel):
    """A web-chat channel; everything has a default, since we host the platform ourselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="", max_length=80, description="Heading of the chat window.")
    greeting: str = Field(
        default="", max_length=500, description="Shown before the visitor's first message."
    )
    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        max_length=500,
        description="Where the chat platform is; by default the agent's own control plane.",
    )
    secret: SecretStr = Field(
        min_length=32,
        description="Signs callbacks and authorises sends.",
        json_schema_extra={"generated": True},
    )
