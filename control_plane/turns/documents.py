"""What people wrote for the bot of a conversation, as published last."""

from collections import OrderedDict
from uuid import UUID

import msgspec

from control_plane.db.session import Session, driver
from control_plane.kit.errors import not_found
from instance_agent.document import Document

# Documents remembered; a revision never changes.
MAX_KEPT = 256

_CURRENT = """
SELECT s.instance_id, s.desired FROM conversations AS c
JOIN config_states AS s ON s.instance_id = c.instance_id WHERE c.id = $1
"""
_DOCUMENT = "SELECT document FROM revisions WHERE instance_id = $1 AND number = $2"
# The built-in one is that of every instance.
_DEFAULT = Document.model_validate({})


class Documents:
    """Reads documents, each revision once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[UUID, int], Document] = OrderedDict()

    async def of(self, session: Session, conversation_id: UUID) -> Document:
        """The document that counts now."""
        row = await (await driver(session)).fetchrow(_CURRENT, conversation_id)
        if row is None:
            raise not_found("instance")
        return await self.under(session, row["instance_id"], row["desired"])

    async def under(self, session: Session, instance_id: UUID, number: int) -> Document:
        """The document of a revision that the session may see; 0 is the built-in one."""
        if number == 0:
            return _DEFAULT
        known = self._kept.get((instance_id, number))
        if known is None:
            found = await (await driver(session)).fetchval(_DOCUMENT, instance_id, number)
            if found is None:
                raise not_found("revision")
            known = self._kept[instance_id, number] = Document.model_validate(
                msgspec.json.decode(found)
            )
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((instance_id, number))
        return known
