"""The life of a tenant, as a table: from which states each action leads where."""

from control_plane.kit.errors import Conflict
from control_plane.tenants.models import TenantState

_WAITING = frozenset({TenantState.PENDING, TenantState.NEEDS_INFORMATION})
_ASKED = _WAITING | {TenantState.REJECTED}
# The work row of a tenant that removes what it has outside the database once it is deleted.
REMOVAL = "media.sweep"

GONE = frozenset({TenantState.DELETING, TenantState.DELETED})

MOVES: dict[str, tuple[frozenset[TenantState], TenantState]] = {
    "approve": (_ASKED, TenantState.ACTIVE),
    "ask": (_WAITING, TenantState.NEEDS_INFORMATION),
    "inform": (_ASKED, TenantState.PENDING),
    "reject": (_WAITING, TenantState.REJECTED),
    "suspend": (frozenset({TenantState.ACTIVE}), TenantState.SUSPENDED),
    "resume": (frozenset({TenantState.SUSPENDED}), TenantState.ACTIVE),
    "delete": (frozenset(TenantState) - GONE, TenantState.DELETING),
}


def after(state: str, action: str) -> TenantState:
    """Where an action leads; where it led before stays. Raises Conflict for any other state."""
    allowed, target = MOVES[action]
    if state != target and state not in allowed:
        raise Conflict("wrong_tenant_state", f"A tenant that is {state} cannot {action}.")
    return target
