"""Settings of an account of WeCom customer service."""

from pydantic import Field

from adapters.wecom.settings import Company


class Settings(Company):
    """One account (客服账号), and the application that may speak for it."""

    open_kfid: str = Field(
        min_length=1,
        max_length=64,
        # It is part of ids and positions.
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Id of the account, begins with wk. A wrong one is answered with the right.",
        json_schema_extra={"description_zh": "客服账号 ID，以 wk 开头。填错时会告诉你正确的。"},
    )
    greeting: str = Field(
        default="",
        max_length=500,
        description="Said when somebody opens the talk who has not written for two days.",
        json_schema_extra={"description_zh": "两天没有来信的人打开对话时说的话。"},
    )
