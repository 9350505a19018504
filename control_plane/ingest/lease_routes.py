"""Agents ask for accounts that take one connection: signed like their events."""

from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control_plane.access.http import HouseDep
from control_plane.access.routes import stranger
from control_plane.db.session import Scope
from control_plane.ingest.verify import Verifier
from control_plane.instances import accounts
from control_plane.kit.errors import BadRequest
from instance_agent.protocol import LeaseAnswer, LeaseRequest

# Accounts of one call: as many as an instance has channels.
_MAX_ACCOUNTS = 50
# What the database's bigint holds.
_MAX_NUMBER = 2**63 - 1

router = APIRouter(include_in_schema=False, dependencies=[Depends(stranger)])


@router.post("/instances/{instance_id}/leases")
async def lease_accounts(instance_id: UUID, request: Request, house: HouseDep) -> Response:
    """Claim, hold on to, give back; nobody learns who else has an account."""
    verifier: Verifier = request.app.state.verifier
    body = await request.body()
    proven = await verifier.prove(instance_id, request.headers, body)
    wanted = _wanted(body)
    async with house.database.plain(Scope(tenants=(proven.tenant_id,))) as session:
        states = await accounts.claim(
            session,
            tenant_id=proven.tenant_id,
            instance_id=instance_id,
            session_id=wanted.session_id,
            accounts={_digest(key): channel for key, channel in wanted.accounts.items()},
            number=wanted.number,
            now=house.clock.now(),
        )
    answer = LeaseAnswer(
        accounts={key.hex(): state for key, state in states.items()},
        life_s=accounts.LIFE.total_seconds(),
    )
    return Response(
        msgspec.json.encode(answer),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _wanted(body: bytes) -> LeaseRequest:
    try:
        wanted = msgspec.json.decode(body, type=LeaseRequest)
    except msgspec.DecodeError as error:
        raise BadRequest("malformed_request", str(error)[:256]) from None
    if len(wanted.accounts) > _MAX_ACCOUNTS or not 0 <= wanted.number <= _MAX_NUMBER:
        raise BadRequest("malformed_request", f"At most {_MAX_ACCOUNTS} accounts, numbered.")
    return wanted


def _digest(key: str) -> bytes:
    try:
        digest = bytes.fromhex(key)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise BadRequest("malformed_request", "An account is named by a SHA-256.")
    return digest
