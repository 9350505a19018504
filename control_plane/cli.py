"""The program `botyard`: one command per process, and help that teaches."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import structlog
import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console

from control_plane import doctor as checks
from control_plane import logs, probes, serve
from control_plane.access import account, reseal, trail
from control_plane.db import migrate as migrations
from control_plane.db.postgres_process import EmbeddedPostgresError
from control_plane.db.session import Database, Scope
from control_plane.fleet.command import Desk, instances_cli
from control_plane.fleet.provision.base import Provisioner, ProvisionError
from control_plane.kit import tracing
from control_plane.kit.clock import Clock, SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BotyardError
from control_plane.parts import AtOnce, Background, Parts, Stoppable, build
from control_plane.places import agents_place, known_to_api
from control_plane.rollouts.command import Act, rollout_cli
from control_plane.seed import FILE, FirstRun, make_operator
from control_plane.serve import HttpServer, PortTaken
from control_plane.settings import Settings
from control_plane.up import KEEP_OLDER_KEYS, KEYS_FILE, AlreadyUp, add_key
from control_plane.up import up as bring_up

out = Console()
log = structlog.get_logger()
Result = TypeVar("Result")
cli = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "A bot of its own for every tenant, on the chat platforms where its customers are.\n\n"
        "On one machine, [bold]botyard up[/bold] is all you need. In production run any number of "
        "[bold]api[/bold], [bold]worker[/bold] and [bold]controller[/bold] processes over one "
        "PostgreSQL; [bold]migrate[/bold] first. Settings come from the environment: "
        "BOTYARD_DATABASE_URL, BOTYARD_SECRET_KEYS, BOTYARD_PUBLIC_URL and so on."
    ),
)

audit_cli = typer.Typer(no_args_is_help=True, help="What was done, by whom.")
keys_cli = typer.Typer(no_args_is_help=True, help="The keys that seal secrets in the database.")
cli.add_typer(audit_cli, name="audit")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(instances_cli, name="instances")

DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept. Default: .botyard here.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 for any. Default: 8080.")]


def main() -> None:
    """Entry point: plain words instead of a traceback for what people can put right."""
    try:
        cli()
    except (PortTaken, AlreadyUp, EmbeddedPostgresError, BotyardError) as error:
        _fail(str(error))
    except ValidationError as error:
        for item in error.errors(include_input=False):
            name = "_".join(["BOTYARD", *map(str, item["loc"])]).upper()
            out.print(f"[red]{name}[/red]: {item['msg']}")
        sys.exit(2)


@cli.command()
def up(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start everything on this machine: database, control plane, bots.

    The first start makes an operator and a demo tenant and prints their logins; they also stand in
    first-run.json in the data folder. Ctrl-C stops everything; the next start takes seconds.
    """
    settings = _settings(data_dir=data_dir, host=host, port=port)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs.to_file("control_plane", settings.data_dir / "log" / "control-plane.log")
    with tracing.exported("control_plane", settings.otlp_url):
        uvloop.run(bring_up(settings, Terminal(settings)))


@cli.command()
def api(host: Host = None, port: Port = None) -> None:
    """Serve HTTP and sockets: dashboards, agents, platforms' callbacks. Run as many as you like.

    Needs BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS, the same for all processes.
    """
    settings = _settings(host=host, port=port)
    logs.to_stdout("api")
    with tracing.exported("api", settings.otlp_url):
        uvloop.run(_api(settings))


@cli.command()
def worker() -> None:
    """Run turns, deliver messages, pass on callbacks that waited. Run as many as you like.

    Needs BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS, the same for all processes.
    """
    settings = _settings()
    logs.to_stdout("worker")
    with tracing.exported("worker", settings.otlp_url):
        uvloop.run(_background(settings, lambda parts: parts.workers()))


@cli.command()
def controller(data_dir: DataDir = None) -> None:
    """Make instances what they should be, as processes of this machine (one per cell) or as pods.

    Needs BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS, the same for all processes.
    """
    settings = _settings(data_dir=data_dir)
    logs.to_stdout("controller")
    with tracing.exported("controller", settings.otlp_url):
        uvloop.run(_controller(settings))


@cli.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def agent(context: typer.Context) -> None:
    """Run one instance agent; the fleet does this for you. Options are the agent's own."""
    os.execv(  # noqa: S606 - becomes the agent, whose imports are leaner than ours
        sys.executable, [sys.executable, "-m", "instance_agent", *context.args]
    )


@cli.command()
def simulate(
    kind: Annotated[str, typer.Argument(help="The kind of the channel, such as wecom.")],
    channel: Annotated[
        str, typer.Option(help="The channel's id, whose settings are replaced; or new for another.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Play the customer: a stand-in of the platform, and a page to write on. For development.

    Works with a [bold]botyard up[/bold] on this machine that was started with
    BOTYARD_OUTBOUND_ALLOW=127.0.0.0/8, and signs in as the demo tenant of its first-run.json.
    """
    settings = _settings(data_dir=data_dir)
    logins = str(settings.data_dir.absolute() / FILE)
    command = ["-m", "adapters.simulators", kind, "--channel", channel, "--logins", logins]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - becomes the stand-in


@cli.command()
def migrate() -> None:
    """Bring the database schema up to date, as its owner (BOTYARD_OWNER_DATABASE_URL)."""
    settings = _settings()
    owner = settings.owner_database_url or settings.database_url
    if owner is None:
        _fail("Set BOTYARD_OWNER_DATABASE_URL (and BOTYARD_DATABASE_URL for the application).")
    app_url = (settings.database_url or owner).get_secret_value()
    revision = asyncio.run(
        migrations.migrate(owner.get_secret_value(), grant_to=migrations.role_of(app_url))
    )
    out.print(f"The schema is at revision {revision}.")


@cli.command()
def operator(email: Annotated[str, typer.Argument(help="Their e-mail address.")]) -> None:
    """Make somebody an operator, who approves tenants and watches the fleet; prints a password.

    `botyard up` makes the first one by itself.
    """
    settings = _settings()
    password = asyncio.run(_with_parts(settings, lambda parts: make_operator(parts.house, email)))
    out.print(f"{email}  {password}", soft_wrap=True)


@audit_cli.command("verify")
def audit_verify() -> None:
    """Check every tenant's audit against its chain of hashes; says the first row that is wrong."""
    whole = asyncio.run(_with_parts(_settings(), _verify_audit))
    sys.exit(0 if whole else 1)


@keys_cli.command("rotate")
def keys_rotate(data_dir: DataDir = None) -> None:
    """Take a new key into use: workers seal everything again, in the background.

    Where BOTYARD_SECRET_KEYS is set, add the new key there first: as the last one, restart every
    process, then as the first one, restart again. Otherwise this writes a new key for
    [bold]botyard up[/bold], which uses it from its next start.
    """
    settings = _settings(data_dir=data_dir)
    if settings.secret_keys:
        tenants = asyncio.run(_with_parts(settings, lambda parts: reseal.call_all(_db(parts))))
        out.print(f"The workers look at the secrets of {tenants} tenants.")
        out.print("[bold]botyard keys status[/bold] says how many still need an older key.")
        return
    if not (settings.data_dir / KEYS_FILE).exists():
        _fail(f"There are no keys in {settings.data_dir}; set BOTYARD_SECRET_KEYS or --data-dir.")
    count = add_key(settings.data_dir)
    out.print(f"{settings.data_dir / KEYS_FILE} has {count} keys now; start botyard up again.")


@keys_cli.command("status")
def keys_status() -> None:
    """Count the secrets that still need an older key; at 0, two days later, it may be dropped."""
    settings = _settings()
    found = asyncio.run(
        _with_parts(settings, lambda parts: reseal.census(_db(parts), parts.house.keys))
    )
    out.print(f"{found.older} of {found.total} secrets still need an older key.")
    out.print(KEEP_OLDER_KEYS)
    if found.lost:
        out.print(f"[red]{found.lost}[/red] can be opened by no key of the list.")


@instances_cli.callback()
def desk(context: typer.Context) -> None:
    context.obj = Desk(open=_desk, place=_place)


@cli.command()
def reset_link(email: Annotated[str, typer.Argument(help="Their e-mail address.")]) -> None:
    """Make a link with which somebody chooses a new password, within an hour, once.

    For owners and operators; whoever else forgot theirs asks an admin of their tenant.
    """
    settings = _settings()
    out.print(asyncio.run(_make_reset_link(settings, email)), soft_wrap=True)


@cli.command()
def doctor(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Check this machine and say in plain words what is wrong and what to do."""
    settings = _settings(data_dir=data_dir, host=host, port=port)
    findings = asyncio.run(checks.examine(settings))
    for finding in findings:
        mark = "[green]ok[/green]  " if finding.ok else "[red]bad[/red] "
        out.print(f"{mark} {finding.about}: {finding.says}")
        if not finding.ok:
            out.print(f"     → {finding.advice}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


class Terminal:
    """Progress and the first-run table for the person who typed `botyard up`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def step(self, text: str) -> None:
        out.print(f"[dim]•[/dim] {text}")

    def ready(self, found: FirstRun | None, url: str) -> None:
        rows = [("Dashboard", f"{url}/app/"), ("API docs", f"{url}/api/v1/docs")]
        if found is not None:
            rows += [
                ("Operator", f"{found.operator['email']}  {found.operator['password']}"),
                ("Demo admin", f"{found.demo['email']}  {found.demo['password']}"),
                ("Demo web chat", found.demo.get("webchat_url", "")),
            ]
        out.print("\n[bold green]Botyard is up.[/bold green]")
        for name, value in rows:
            out.print(f"  {name:<15}{value}", soft_wrap=True)
        out.print(
            f"The same stands in {self._settings.data_dir / FILE}. Ctrl-C stops everything.",
            soft_wrap=True,
        )

    def stopping(self) -> None:
        out.print("[dim]•[/dim] stopping")


async def _api(settings: Settings) -> None:
    parts = _parts(settings)
    with serve.listen(settings.host, settings.port) as listener:
        try:
            async with known_to_api(settings, parts):
                await _serve_api(settings, parts, listener)
        except ProvisionError as error:
            _fail(str(error))
        finally:
            await parts.close()


async def _serve_api(settings: Settings, parts: Parts, listener: socket.socket) -> None:
    from control_plane.app import create_app

    app = create_app(parts, web_pages=settings.web_pages)
    http = HttpServer(app, listener, parts.sockets, trusted_proxies=settings.trusted_proxies)
    bus = Background("bus", parts.bus.run())
    # What came in is answered before those that answer it end; hints go until the last.
    groups: list[list[Stoppable]] = [[http, parts.realtime], [parts.commits], [bus]]
    await serve.run(groups, parts.house.draining, notice_s=settings.drain_notice_s)


async def _with_parts(settings: Settings, act: Callable[[Parts], Awaitable[Result]]) -> Result:
    parts = _parts(settings)
    try:
        return await act(parts)
    finally:
        await parts.close()


def _as_platform(act: Act[Result]) -> Result:
    """In one transaction that speaks for the platform."""

    async def acting(parts: Parts) -> Result:
        async with _db(parts).session(Scope(operator=True)) as session:
            return await act(session, parts.house.clock.now())

    return asyncio.run(_with_parts(_settings(), acting))


instances_cli.add_typer(rollout_cli(_as_platform), name="rollout")


@asynccontextmanager
async def _desk() -> AsyncIterator[tuple[Database, Clock]]:
    parts = _parts(_settings())
    try:
        yield parts.house.database, parts.house.clock
    finally:
        await parts.close()


@asynccontextmanager
async def _place(cell: str, data_dir: Path | None) -> AsyncIterator[Provisioner]:
    """Where the agents of a cell run."""
    settings = _settings(data_dir=data_dir, cell=cell)
    parts = _parts(settings)
    try:
        async with agents_place(settings, parts) as provisioner:
            yield provisioner
    finally:
        await parts.close()


def _db(parts: Parts) -> Database:
    return parts.house.database


async def _verify_audit(parts: Parts) -> bool:
    whole = True
    async for verdict in trail.verify(_db(parts)):
        if verdict.broken is None:
            out.print(f"[green]ok[/green]  {verdict.tenant_id}: {verdict.entries} entries")
        else:
            whole = False
            out.print(f"[red]bad[/red] {verdict.tenant_id}: broken at {verdict.broken}")
    return whole


async def _make_reset_link(settings: Settings, email: str) -> str:
    parts = _parts(settings)
    try:
        return await account.make_link_for(parts.house, email)
    finally:
        await parts.close()


async def _background(settings: Settings, choose: Callable[[Parts], list[Stoppable]]) -> None:
    parts = _parts(settings)
    try:
        await _serve_probes(settings, parts, choose(parts))
    finally:
        await parts.close()


async def _serve_probes(settings: Settings, parts: Parts, chosen: list[Stoppable]) -> None:
    """Run background parts beside the little that watches them."""
    with serve.listen(settings.host, settings.probe_port) as listener:
        log.info("probes served", port=listener.getsockname()[1])
        http = HttpServer(probes.only(parts.house), listener)
        bus = Background("bus", parts.bus.run())
        await serve.run([chosen, [http, bus]], parts.house.draining)


async def _controller(settings: Settings) -> None:
    parts = _parts(settings)
    try:
        async with agents_place(settings, parts) as provisioner:
            await _serve_probes(settings, parts, parts.controllers(provisioner, settings.cell))
    except ProvisionError as error:
        _fail(str(error))
    finally:
        await parts.close()


def _parts(settings: Settings) -> Parts:
    if settings.database_url is None or not settings.secret_keys:
        _fail("Set BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS; see botyard --help.")
    return build(
        database_url=settings.database_url.get_secret_value(),
        keys=Keyring([key.get_secret_value() for key in settings.secret_keys]),
        clock=SystemClock(),
        public_url=settings.base_url,
        approval=settings.approval,
        smtp_url=settings.mail_server,
        redis_url=settings.redis_address,
        rates=settings.rates,
        outbound_allow=settings.outbound_networks,
        retention_max_days=settings.retention_max_days,
        media=settings.media_storage,
        sockets=settings.sockets,
        at_once=AtOnce(turns=settings.turns_at_once, lanes=settings.lanes_at_once),
        offline_speech=settings.offline_speech,
    )


def _settings(**given: object) -> Settings:
    """Options win over the environment."""
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _fail(text: str) -> NoReturn:
    out.print(f"[red]{text}[/red]")
    out.print("Run [bold]botyard doctor[/bold] to see what is wrong.")
    sys.exit(1)
