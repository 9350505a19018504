"""/answers: the question-and-answer list."""

from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.turns import answers
from control_plane.turns.schemas import AnswerOut, AnswersIn

router = APIRouter(prefix="/answers", tags=["answers"], route_class=TransactionRoute)


@router.get("")
async def list_answers(
    call: Annotated[Call, permit(Permission.ANSWERS_READ)],
    window: Annotated[Window, Depends()],
) -> Page[AnswerOut]:
    """What the bot answers by itself, in order."""
    rows = await answers.list_answers(call.session, after=window.after_number(), limit=window.limit)
    page, last = cut(rows, window.limit)
    items = [AnswerOut.model_validate(row, from_attributes=True) for row in page]
    return Page(items=items, next=cursor(last.position) if last else None)


@router.put("")
async def replace_answers(
    body: AnswersIn, call: Annotated[Call, permit(Permission.ANSWERS_WRITE)]
) -> Page[AnswerOut]:
    """Put a new list in the place of the old one."""
    await answers.replace(
        call.session,
        tenant_id=call.actor.tenant,
        items=body.items,
        actor=call.actor,
        now=call.now,
    )
    items = [
        AnswerOut(position=position, question=item.question, answer=item.answer)
        for position, item in enumerate(body.items, start=1)
    ]
    return Page(items=items, next=None)
