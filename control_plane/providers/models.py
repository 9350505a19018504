"""A tenant's account at somebody who runs models."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class Provider(Row, table=True):
    """Where models are asked, and with which key; `api_key` is sealed."""

    __tablename__ = "providers"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    name: str
    kind: str
    base_url: str
    api_key: bytes | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)
