"""What a platform took and says later that nobody got: noted and told in one commit.

The journal knows from then on that the part was not shown, so a person who has it sent again gets
that part sent, and no other. Told again, it changes nothing: its event has the platform's own id.
"""

from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from adapters.base import NotAccepted, Undelivered
from instance_agent import journal
from instance_agent.protocol import MessageFailed, PartOutcome, event_id
from instance_agent.reporter import new_event
from instance_agent.spool import Spool
from instance_agent.store import StoreFailed

log = structlog.get_logger()


class Late:
    """All channels' late failures."""

    def __init__(self, spool: Spool, *, clock: Callable[[], float]) -> None:
        self._spool = spool
        self._clock = clock

    async def tell(self, channel_id: UUID, failure: Undelivered) -> None:
        """Return when it is sure that the control plane will hear of it; raises NotAccepted."""
        log.warning(
            "message not delivered",
            channel_id=str(channel_id),
            platform_message_id=failure.platform_message_id,
            error_class=failure.error_class,
            reason=failure.detail,
        )
        now = self._clock()
        data = MessageFailed(
            channel_id=channel_id,
            conversation=failure.conversation,
            platform_message_id=failure.platform_message_id,
            error_class=failure.error_class,
            detail=failure.detail,
        )
        event = new_event(
            "message.failed", data, now=now, event_id=event_id(channel_id, failure.dedupe_key)
        )
        outcome = PartOutcome(
            outcome="failed",
            platform_message_id=failure.platform_message_id,
            error_class=failure.error_class,
            detail=failure.detail,
        )
        try:
            await self._spool.keep(
                [(event.id, msgspec.json.encode(event))],
                at=now,
                along=lambda disk: journal.refuse(disk, failure.platform_message_id, outcome),
            )
        except StoreFailed as failed:
            raise NotAccepted(f"the disk did not take it: {failed}") from failed
