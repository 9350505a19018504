"""/answers: the question-and-answer list; /turns, /conversations/{id}/turns: what the bot did."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from control_plane.access.http import Call, TransactionRoute, admit, permit
from control_plane.access.permissions import Actor, Permission
from control_plane.kit.openapi import fails
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.turns import answers, history
from control_plane.turns.assisting import Assisting
from control_plane.turns.models import Turn
from control_plane.turns.schemas import (
    AnswerOut,
    AnswersIn,
    AskedOut,
    SuggestionsOut,
    SummaryOut,
    TurnEntryOut,
    TurnOut,
)

router = APIRouter(prefix="/answers", tags=["answers"], route_class=TransactionRoute)

talks_router = APIRouter(
    prefix="/conversations", tags=["conversations"], route_class=TransactionRoute
)
turns_router = APIRouter(prefix="/turns", tags=["conversations"], route_class=TransactionRoute)
# They ask models, and keep no transaction open meanwhile.
plain = APIRouter(prefix="/conversations", tags=["conversations"])

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
WindowDep = Annotated[Window, Depends()]
Answering = Annotated[Actor, admit(Permission.CONVERSATIONS_WRITE)]


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


@talks_router.get("/{conversation_id}/turns")
async def list_turns(
    conversation_id: UUID,
    call: Reader,
    window: WindowDep,
) -> Page[TurnOut]:
    """What the bot did in a conversation, newest first: models, tokens, failures."""
    rows = await history.list_turns(
        call.session, conversation_id, before=window.after_number(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    asked = await history.asked(call.session, page)
    items = [TurnOut(**_turn(turn, asked[turn.id])) for turn in page]
    return Page(items=items, next=cursor(last.number) if last else None)


@turns_router.get("")
async def list_all_turns(call: Reader, window: WindowDep) -> Page[TurnEntryOut]:
    """What the tenant's bots did in all conversations, newest first."""
    rows = await history.list_all(
        call.session, call.actor.tenant, before=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    asked = await history.asked(call.session, page)
    items = [
        TurnEntryOut(**_turn(turn, asked[turn.id]), conversation_id=turn.conversation_id)
        for turn in page
    ]
    return Page(items=items, next=cursor(last.id) if last else None)


@plain.post("/{conversation_id}/summary", responses=fails(503))
async def summarise(conversation_id: UUID, request: Request, actor: Answering) -> SummaryOut:
    """Have a model of the bot sum the conversation up, for whoever takes it over."""
    assisting: Assisting = request.app.state.assisting
    found = await assisting.assist(actor, conversation_id, "summary")
    return SummaryOut(
        text=found.texts[0],
        model=found.model,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        through_number=found.through_number,
    )


@plain.post("/{conversation_id}/suggestions", responses=fails(503))
async def suggest(conversation_id: UUID, request: Request, actor: Answering) -> SuggestionsOut:
    """Have a model of the bot propose what to reply."""
    assisting: Assisting = request.app.state.assisting
    found = await assisting.assist(actor, conversation_id, "suggestions")
    return SuggestionsOut(
        items=found.texts,
        model=found.model,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        through_number=found.through_number,
    )


def _turn(turn: Turn, asked: list[dict[str, Any]]) -> dict[str, Any]:
    late = asked[-1]["answer"] if asked and turn.state == "dropped" else None
    return turn.model_dump(include=set(TurnOut.model_fields)) | {
        "asked": [AskedOut(provider_id=one["provider"], **one) for one in asked],
        "suggestion": late,
    }
