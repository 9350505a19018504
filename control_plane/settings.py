"""Settings of every process, from the environment (`BOTYARD_...`), checked at start.

What is secret may come from a file instead, as container platforms mount it: `BOTYARD_..._FILE`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from control_plane.kit.crypto import MIN_KEY_LENGTH

PREFIX = "BOTYARD_"
PROJECT = Path(__file__).parents[1]


class Settings(BaseSettings):
    """One process; `botyard up` fills in what a laptop does not have."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    database_url: SecretStr | None = Field(
        default=None, description="postgresql+asyncpg://… of the application's role, never owner."
    )
    owner_database_url: SecretStr | None = Field(
        default=None, description="postgresql+asyncpg://… of the schema's owner, for migrations."
    )
    secret_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="By comma or line, newest first; the first seals and signs, all open.",
    )
    data_dir: Path = Field(default=Path(".botyard"), description="Where one machine keeps it all.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on.")
    public_url: str | None = Field(
        default=None, description="Where browsers and platforms reach us; no slash at the end."
    )
    control_url: str | None = Field(
        default=None, description="Where agents reach us, when that is another address."
    )
    cell: str = Field(default="", description="The cell whose instances this process looks after.")
    web_pages: Path = Field(
        default=PROJECT / "web-admin" / "dist", description="The built web pages."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        read = {}
        for name in _secret_names(cls):
            variable = f"{PREFIX}{name}".upper()
            if (path := os.environ.get(f"{variable}_FILE")) is None:
                continue
            if variable in os.environ:
                raise ValueError(f"set either {variable} or {variable}_FILE, not both")
            try:
                read[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{variable}_FILE cannot be read: {type(error).__name__}"
                ) from None
        # What was given in code wins, as it does over the environment.
        return read | given

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.replace(",", "\n").split() if isinstance(value, str) else value

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: list[SecretStr]) -> list[SecretStr]:
        if any(len(key.get_secret_value()) < MIN_KEY_LENGTH for key in keys):
            raise ValueError(f"every key needs at least {MIN_KEY_LENGTH} characters")
        return keys

    @property
    def base_url(self) -> str:
        """Where people reach us."""
        return self.public_url or f"http://{self.host}:{self.port}"


def _secret_names(settings: type[BaseSettings]) -> list[str]:
    """The settings that hold a SecretStr, alone, in a list or as one of several types."""
    return [
        name
        for name, field in settings.model_fields.items()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    ]
