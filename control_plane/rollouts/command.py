"""`botyard instances rollout`: releases brought out from a terminal, by whoever has the database.

What is done here is in the audit as the system's.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

import typer
from pydantic import ValidationError
from rich.table import Table
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.fleet.command import Form, Output, out
from control_plane.kit.paging import MAX_PAGE
from control_plane.rollouts import service
from control_plane.rollouts.advance import MemberState
from control_plane.rollouts.models import Rollout
from control_plane.rollouts.schemas import ReleaseIn, RolloutIn, RolloutOut

T = TypeVar("T")
Act = Callable[[AsyncSession, datetime], Awaitable[T]]


class Run(Protocol):
    """Does something in one transaction that speaks for the platform."""

    def __call__(self, act: Act[T]) -> T: ...


Number = Annotated[int, typer.Argument(help="The rollout's number, as `list` shows it.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of all agents, such as log_level=debug. Repeatable."),
]


def rollout_cli(run: Run) -> typer.Typer:
    """The commands, over a way to the database."""
    app = typer.Typer(
        no_args_is_help=True,
        help="Bring another image or other options out to all bots, wave by wave.",
    )
    _starting(app, run)
    _looking(app, run)
    _steering(app, run)
    return app


def _starting(app: typer.Typer, run: Run) -> None:
    @app.command()
    def start(
        image: Annotated[str | None, typer.Option(help="The agents' new image.")] = None,
        settings: Setting = None,
        release: Annotated[
            int | None, typer.Option(help="A release that is there already, by number.")
        ] = None,
        note: Annotated[str, typer.Option(help="What people shall know about it.")] = "",
        waves: Annotated[
            str, typer.Option(help="Shares in percent; 0 are the canaries.")
        ] = "0,5,25,100",
        budget: Annotated[int, typer.Option(help="Percent that may fail before all go back.")] = 2,
        ready_within: Annotated[
            int, typer.Option(help="Seconds that a bot may be unwell after its move.")
        ] = 300,
        watch: Annotated[
            int, typer.Option(help="Seconds that a bot is watched before it is good.")
        ] = 600,
        at_once: Annotated[int, typer.Option(help="Bots on their way up at a time.")] = 20,
        output: Output = Form.TABLE,
    ) -> None:
        """Begin a rollout of a new release (--image, --set), or of one by number (--release)."""
        given = _checked(
            RolloutIn,
            {
                "release": release or 1,
                "waves": [part.strip() for part in waves.split(",")],
                "budget_percent": budget,
                "ready_within_s": ready_within,
                "watch_s": watch,
                "at_once": at_once,
            },
        )
        made = _release(image, settings or [], note)
        if (made is None) == (release is None):
            _wrong("Say either what the release is (--image, --set) or which one (--release).")

        async def act(session: AsyncSession, now: datetime) -> RolloutOut:
            asked = given
            if made is not None:
                new = await service.create_release(session, made, actor=None, now=now)
                asked = given.model_copy(update={"release": new.number})
            return await _one(session, await service.start(session, asked, actor=None, now=now))

        _show([run(act)], output, one=True)


def _looking(app: typer.Typer, run: Run) -> None:
    @app.command("list")
    def list_(
        limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many.")] = 20,
        output: Output = Form.TABLE,
    ) -> None:
        """Show rollouts, newest first."""

        async def act(session: AsyncSession, _now: datetime) -> list[RolloutOut]:
            found = await service.list_rollouts(session, before=None, limit=limit)
            return await service.shown(session, found[:limit])

        _show(run(act), output)

    @app.command()
    def get(number: Number, output: Output = Form.TABLE) -> None:
        """Show how far a rollout is, and which bots went back and why."""

        async def act(
            session: AsyncSession, _now: datetime
        ) -> tuple[RolloutOut, list[dict[str, Any]]]:
            rollout = await service.by_number(session, number)
            failed = await service.members(
                session, rollout.id, state=MemberState.FAILED, after=None, limit=MAX_PAGE
            )
            told = [each.model_dump(mode="json") for each in failed[:MAX_PAGE]]
            return await _one(session, rollout), told

        found, failed = run(act)
        if output is Form.JSON:
            _print_json(found.model_dump(mode="json") | {"failed": failed})
            return
        _show([found], output, one=True)
        for each in failed:
            out.print(f"  [red]{each['reason']}[/red]  {each['instance_id']}", soft_wrap=True)


def _steering(app: typer.Typer, run: Run) -> None:
    @app.command()
    def pause(number: Number, output: Output = Form.TABLE) -> None:
        """Move nobody forward; what fails still goes back."""

        async def act(session: AsyncSession, now: datetime) -> RolloutOut:
            found = await service.by_number(session, number)
            return await _one(session, await service.pause(session, found.id, actor=None, now=now))

        _show([run(act)], output, one=True)

    @app.command()
    def resume(number: Number, output: Output = Form.TABLE) -> None:
        """Go on after a pause."""

        async def act(session: AsyncSession, now: datetime) -> RolloutOut:
            found = await service.by_number(session, number)
            return await _one(session, await service.resume(session, found.id, actor=None, now=now))

        _show([run(act)], output, one=True)

    @app.command()
    def abort(
        number: Number,
        roll_back: Annotated[
            bool, typer.Option(help="Take back those that are good; otherwise they stay.")
        ] = False,
        output: Output = Form.TABLE,
    ) -> None:
        """Leave a rollout where it is, or take everybody back."""

        async def act(session: AsyncSession, now: datetime) -> RolloutOut:
            found = await service.by_number(session, number)
            ended = await service.abort(session, found.id, roll_back=roll_back, actor=None, now=now)
            return await _one(session, ended)

        _show([run(act)], output, one=True)


async def _one(session: AsyncSession, rollout: Rollout) -> RolloutOut:
    (found,) = await service.shown(session, [rollout])
    return found


def _release(image: str | None, settings: list[str], note: str) -> ReleaseIn | None:
    if image is None and not settings:
        return None
    pairs = [each.partition("=") for each in settings]
    if not all(between for _, between, _ in pairs):
        _wrong("--set takes name=value.")
    named = {name: value for name, _, value in pairs}
    return _checked(ReleaseIn, {"image": image, "settings": named, "note": note})


Given = TypeVar("Given", ReleaseIn, RolloutIn)


def _checked(kind: type[Given], given: dict[str, Any]) -> Given:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        for item in error.errors(include_input=False):
            out.print(f"[red]{'.'.join(map(str, item['loc']))}[/red]: {item['msg']}")
        raise typer.Exit(2) from None


def _wrong(text: str) -> None:
    out.print(f"[red]{text}[/red]")
    raise typer.Exit(2)


def _show(found: Sequence[RolloutOut], output: Form, *, one: bool = False) -> None:
    if output is Form.JSON:
        told = [each.model_dump(mode="json") for each in found]
        _print_json(told[0] if one else told)
        return
    if not found:
        out.print("There was no rollout yet; [bold]botyard instances rollout start[/bold].")
        return
    table = Table(box=None, pad_edge=False)
    heads = ("number", "release", "state", "wave", *(state.value for state in MemberState))
    for head in (*heads, "began"):
        table.add_column(head.replace("_", " "), no_wrap=True)
    for each in found:
        state = f"{each.state} ({each.reason})" if each.reason else each.state
        wave = f"{each.wave + 1} of {len(each.waves)}"
        counts = [str(each.members[name.value]) for name in MemberState]
        began = each.created_at.isoformat(sep=" ", timespec="seconds")
        table.add_row(str(each.number), str(each.release), state, wave, *counts, began)
    out.print(table)


def _print_json(told: Any) -> None:
    out.print(json.dumps(told, ensure_ascii=False, indent=2), soft_wrap=True, markup=False)
