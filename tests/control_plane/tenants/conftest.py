"""A mailbox in the place of a mail server."""

from tests.control_plane.access.conftest import mailbox

__all__ = ["mailbox"]
