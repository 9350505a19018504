"""Settings of every process, from the environment (`BOTYARD_...`), checked at start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from control_plane.access.limits import Rates
from control_plane.kit.crypto import MIN_KEY_LENGTH

PROJECT = Path(__file__).parents[1]


class Settings(BaseSettings):
    """One process; `botyard up` fills in what a laptop does not have."""

    model_config = SettingsConfigDict(
        env_prefix="BOTYARD_", env_nested_delimiter="__", extra="ignore"
    )

    database_url: SecretStr | None = Field(
        default=None, description="postgresql+asyncpg://… of the application's role, never owner."
    )
    owner_database_url: SecretStr | None = Field(
        default=None, description="postgresql+asyncpg://… of the schema's owner, for migrations."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="redis://… or unix://…; several processes share rate limits and hints there.",
    )
    rates: Rates = Field(default=Rates(), description="Rate limits, each like 60/minute.")
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Comma-separated addresses whose X-Forwarded-For is believed.",
    )
    secret_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="Comma-separated, newest first; the first seals and signs, all open.",
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

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [key for key in value.split(",") if key] if isinstance(value, str) else value

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: list[SecretStr]) -> list[SecretStr]:
        if any(len(key.get_secret_value()) < MIN_KEY_LENGTH for key in keys):
            raise ValueError(f"every key needs at least {MIN_KEY_LENGTH} characters")
        return keys

    @property
    def redis_address(self) -> str | None:
        """Redis, if there is one; may hold its password."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    @property
    def base_url(self) -> str:
        """Where people reach us."""
        return self.public_url or f"http://{self.host}:{self.port}"
