"""How many may be connected to one process."""

from pydantic import BaseModel, ConfigDict, Field


class SocketLimits(BaseModel):
    """Connections of people; each limit is a setting such as BOTYARD_SOCKETS__TOTAL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: int = Field(
        default=10_000, ge=1, description="Of everybody: about 400 MB; start another process then."
    )
    per_address: int = Field(
        default=1_000, ge=1, description="From one address: an office behind one, or one stranger."
    )
    per_tenant: int = Field(
        default=2_000, ge=1, description="Of one tenant, so that none takes all the places."
    )
    per_member: int = Field(
        default=20, ge=1, description="Of one person: tabs and devices, and no runaway script."
    )
