"""Agents whose blacklist is another than the tenant's: tell them what they lack.

What the agent has is asked, not remembered. A push that gets lost comes again with its heartbeat,
which names the version that it has; one that starts pulls the list by itself.
"""

from datetime import timedelta

import structlog

from control_plane.channels import blacklist
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.kit.crypto import Keyring

log = structlog.get_logger()


class BlacklistPush:
    """Works on the rows of `blacklist.WORK`, one for each instance."""

    def __init__(self, database: Database, keys: Keyring, agents: AgentClient) -> None:
        self._database = database
        self._keys = keys
        self._agents = agents

    async def push(self, lease: Lease) -> timedelta | None:
        """Bring one agent up to date; nothing to do where there is none."""
        scope = Scope(tenants=(lease.tenant_id,))
        async with self._database.session(scope) as session:
            agent = await sessions.active_agent(session, self._keys, lease.key)
        if agent is None:
            return None
        try:
            health = await self._agents.health(agent)
            if health.blacklist is None:
                # An agent of before: the next one of this instance will have it.
                return None
            async with self._database.session(scope) as session:
                update = await blacklist.delta(
                    session, lease.tenant_id, lease.key, base=health.blacklist
                )
            if update is not None:
                await self._agents.update_blacklist(agent, update)
        except (AgentAway, AgentSilent, AgentRefused) as error:
            log.warning("blacklist not pushed", instance_id=str(lease.key), reason=str(error))
        return None
