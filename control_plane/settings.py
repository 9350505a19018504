"""Settings of every process, from the environment (`BOTYARD_...`), checked at start.

What is secret may come from a file instead, as container platforms mount it: `BOTYARD_..._FILE`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from adapters.egress import Network
from adapters.outbound import networks
from control_plane.access.limits import Rates
from control_plane.fleet.provision.kubernetes_manifests import Placement
from control_plane.fleet.provision.kubernetes_settings import KubernetesSettings
from control_plane.kit.crypto import MIN_KEY_LENGTH
from control_plane.media import storage
from control_plane.media.storage import Storage
from control_plane.privacy.retention import RETENTION_MAX_DAYS
from control_plane.realtime.limits import SocketLimits

PREFIX = "BOTYARD_"
PROJECT = Path(__file__).parents[1]


class Settings(BaseSettings):
    """One process; `botyard up` fills in what a laptop does not have."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", hide_input_in_errors=True
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
    sockets: SocketLimits = Field(
        default=SocketLimits(), description="How many people one process serves at a time."
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Comma-separated addresses whose X-Forwarded-For is believed.",
    )
    secret_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="By comma or line, newest first; the first seals and signs, all open.",
    )
    data_dir: Path = Field(default=Path(".botyard"), description="Where one machine keeps it all.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on.")
    probe_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Where worker and controller answer /healthz, /readyz, /metrics; 0 for any.",
    )
    otlp_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where traces are collected (OTLP over HTTP), such as http://host:4318/v1/traces.",
    )
    drain_notice_s: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="How long api serves on, not ready any more, after it was asked to stop.",
    )
    public_url: str | None = Field(
        default=None, description="Where browsers and platforms reach us; no slash at the end."
    )
    control_url: str | None = Field(
        default=None, description="Where agents reach us, when that is another address."
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp(s)://user:password@host:port to send mail; none: mail is off.",
    )
    media_url: str | None = Field(
        default=None,
        description="s3://bucket/prefix where media are kept; none: the folder media in data_dir.",
    )
    media_key: SecretStr | None = Field(
        default=None, description="Access key of the bucket; none: what the machine's role may."
    )
    media_secret: SecretStr | None = Field(default=None, description="Its secret.")
    media_endpoint: str | None = Field(
        default=None, description="http(s)://host:port of a store that is not Amazon's."
    )
    media_region: str = Field(default="us-east-1", description="Region of the bucket.")
    turns_at_once: int = Field(
        default=64, ge=1, le=1_000, description="Turns that one worker has in hand at a time."
    )
    lanes_at_once: int = Field(
        default=16,
        ge=1,
        le=1_000,
        description="Conversations that one worker delivers to at a time.",
    )
    cell: str = Field(default="", description="The cell whose instances this process looks after.")
    provisioner: Literal["process", "kubernetes"] = Field(
        default="process",
        description="Where agents run: as processes beside the controller, or as pods.",
    )
    kubernetes: KubernetesSettings = Field(
        default=KubernetesSettings(), description="For agents as pods; see docs/fleet.md."
    )
    approval: Literal["manual", "automatic"] = Field(
        default="manual", description="Whether registrations wait for an operator's approval."
    )
    outbound_allow: str = Field(
        default="",
        description="Private networks by comma that tenants' addresses may lead to: 10.2.0.0/16.",
    )
    offline_speech: bool = Field(
        default=False,
        description="Write down English voices of bots that name no provider, beside the worker.",
    )
    retention_max_days: int = Field(
        default=RETENTION_MAX_DAYS,
        ge=31,
        description="Days after which everything that was said is removed, whatever a plan says.",
    )
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

    @field_validator("database_url", "owner_database_url")
    @classmethod
    def _readable(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            known = url is None or make_url(url.get_secret_value()).drivername
        except (ArgumentError, ValueError):
            known = ""
        if known not in (True, "postgresql+asyncpg"):
            raise ValueError("it must look like postgresql+asyncpg://user:password@host/database")
        return url

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.port == 0:
                raise ValueError("it looks like smtp://host:port or smtps://host:port")
        return url

    @field_validator("outbound_allow")
    @classmethod
    def _networks(cls, text: str) -> str:
        networks(text)
        return text

    @property
    def outbound_networks(self) -> tuple[Network, ...]:
        """The private networks that tenants may have us call."""
        return networks(self.outbound_allow)

    @field_validator("media_url")
    @classmethod
    def _bucket(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme != "s3" or not parts.netloc or parts.username or parts.query:
                raise ValueError("it looks like s3://bucket or s3://bucket/prefix")
        return url

    @field_validator("media_endpoint")
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
                raise ValueError("it looks like https://host:port")
        return url

    @model_validator(mode="after")
    def _both_or_none(self) -> "Settings":
        if (self.media_key is None) != (self.media_secret is None):
            raise ValueError("set both BOTYARD_MEDIA_KEY and BOTYARD_MEDIA_SECRET, or neither")
        return self

    @model_validator(mode="after")
    def _has_a_place(self) -> "Settings":
        if self.provisioner == "kubernetes":
            self.placement(self.cell)
        return self

    def placement(self, cell: str) -> Placement:
        """Where agents of a cell run as pods; raises ValueError for what cannot be."""
        return self.kubernetes.placement(
            cell,
            control_url=self.control_url or self.base_url,
            outbound_allow=self.outbound_networks,
        )

    @property
    def media_storage(self) -> Storage:
        """Where media are kept; nothing is opened yet."""
        if self.media_url is None:
            return storage.folder(self.data_dir.absolute() / "media")
        return storage.bucket(
            self.media_url,
            key=self.media_key.get_secret_value() if self.media_key else None,
            secret=self.media_secret.get_secret_value() if self.media_secret else None,
            endpoint=self.media_endpoint,
            region=self.media_region,
        )

    @property
    def mail_server(self) -> str | None:
        """The address of the mail server, if there is one."""
        return self.smtp_url.get_secret_value() if self.smtp_url else None

    @property
    def redis_address(self) -> str | None:
        """Redis, if there is one; may hold its password."""
        return self.redis_url.get_secret_value() if self.redis_url else None

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
