"""The agent put together: from an identity to running channels, and back down in order."""

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

import httpx2
import msgspec
import structlog

from adapters.base import Control
from adapters.outbound import Door, Outbound
from instance_agent import blacklist, session
from instance_agent.blacklist import Blacklist
from instance_agent.channel_host import Surroundings
from instance_agent.configs import Configs
from instance_agent.gate import Gate
from instance_agent.holds import Holds
from instance_agent.intake import Intake
from instance_agent.journal import Journal
from instance_agent.late import Late
from instance_agent.llm.inference import Inference
from instance_agent.media import MediaStore
from instance_agent.metrics import Metrics
from instance_agent.protocol import Bootstrap, ChannelStatus, EventType, Health, Heartbeat
from instance_agent.reporter import Reporter
from instance_agent.secrets import Secrets
from instance_agent.sender import Sender
from instance_agent.settings import HEALTH_WINDOW_S
from instance_agent.speech import Transcription
from instance_agent.spool import Spool
from instance_agent.store import Store
from instance_agent.supervisor import Supervisor

# The send journal is swept this often, one batch after another until nothing is too old.
CLEAN_EVERY_S = 3600.0
# Sends and callbacks under way get this long when the agent stops.
FINISH_S = 10.0
# What is still spooled then stays on disk for the successor.
FLUSH_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Running:
    """What exists once the agent has an identity."""

    session: Bootstrap
    secrets: Secrets
    reporter: Reporter
    blacklist: Blacklist
    intake: Intake
    supervisor: Supervisor
    configs: Configs
    sender: Sender
    inference: Inference
    transcription: Transcription
    holds: Holds


class Agent:
    """One tenant's bot. `running` is None until the bootstrap exchange is done."""

    def __init__(
        self,
        *,
        instance_id: UUID,
        control_url: str,
        data_dir: Path,
        store: Store,
        http: httpx2.AsyncClient,
        platforms: httpx2.AsyncClient,
        clock: Callable[[], float],
        random: Random,
        door: Door,
        window_s: float = HEALTH_WINDOW_S,
    ) -> None:
        self.instance_id = instance_id
        self.version = session.version()
        self.gate = Gate()
        self.metrics = Metrics()
        self.journal = Journal(store)
        self.spool = Spool(store)
        self.running: Running | None = None
        self._control_url = control_url
        self._data_dir = data_dir
        self._store = store
        self._http = http
        self._platforms = platforms
        self._clock = clock
        self._random = random
        self._door = door
        self._window_s = window_s
        self._observe()

    async def run(self, identity: Bootstrap) -> None:
        """Bring everything up and keep it so until cancelled, or until the session is ended."""
        await self.journal.load()
        await self.spool.load()
        running = self._assemble(identity)
        await running.intake.load(identity.checkpoints)
        await running.blacklist.begin()
        self.running = running
        async with asyncio.TaskGroup() as loops:
            tasks = [
                loops.create_task(running.reporter.post_spool(), name="spool"),
                loops.create_task(running.supervisor.report_states(), name="channel-states"),
                loops.create_task(running.supervisor.watch(), name="channel-proofs"),
                loops.create_task(self._sweep(), name="journal-sweep"),
                loops.create_task(running.configs.watch(), name="config-trials"),
                loops.create_task(running.holds.keep(), name="accounts"),
                loops.create_task(running.blacklist.keep(), name="blacklist"),
                loops.create_task(running.blacklist.tell(), name="blocked-messages"),
            ]
            await running.configs.boot(identity.newest, identity.last_good, identity.refused)
            tasks.append(loops.create_task(self._heartbeats(running), name="heartbeat"))
            await running.reporter.gone.wait()
            log.info("session ended by the control plane", spooled=self.spool.state.depth)
            for task in tasks:
                task.cancel()

    async def drain(self) -> None:
        """Finish what was begun, let go of the channels, post the spool; all bounded."""
        if not await self.gate.close(FINISH_S):
            log.warning("requests were cut", after_s=FINISH_S)
        if (running := self.running) is None:
            return
        await running.configs.close()
        await running.supervisor.close()
        await running.holds.close()
        await running.intake.close()
        await running.inference.close()
        await running.transcription.close()
        await running.blacklist.close()
        await self._flush(running)
        await running.reporter.close()

    async def _flush(self, running: Running) -> None:
        posting = asyncio.create_task(running.reporter.post_spool(), name="spool-flush")
        emptied = asyncio.create_task(self.spool.empty.wait(), name="spool-emptied")
        await asyncio.wait({posting, emptied}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        if self.spool.state.depth:
            log.warning("spool left for the successor", events=self.spool.state.depth)
        posting.cancel()
        emptied.cancel()
        await asyncio.gather(posting, emptied, return_exceptions=True)

    @property
    def ready(self) -> bool:
        return self.running is not None and self.running.configs.ready and not self.gate.closed

    def health(self, running: Running) -> Health:
        return Health(
            version=self.version,
            instance_id=self.instance_id,
            ready=self.ready,
            draining=self.gate.closed,
            journal_id=self.journal.id,
            config=running.configs.state(),
            channels=running.supervisor.statuses(),
            spool_depth=self.spool.state.depth,
            blacklist=running.blacklist.version,
        )

    def _assemble(self, identity: Bootstrap) -> Running:
        secrets = Secrets(identity, clock=time.monotonic)

        def secret() -> str:
            return secrets.signing

        reporter = self._reporter(identity, secret)
        intake = Intake(
            reporter=reporter,
            spool=self.spool,
            store=self._store,
            clock=self._clock,
            random=self._random,
        )

        async def record_status(status: ChannelStatus) -> None:
            await reporter.record("channel.status", status, subject=status.channel_id)

        async def record(kind: EventType, data: msgspec.Struct) -> None:
            await reporter.record(kind, data, subject=None)

        holds = self._holds(identity, secret)
        listed = self._blacklist(record, secret)
        around = self._surroundings(listed, intake, holds, secret)
        supervisor = Supervisor(around, record_status)
        configs = Configs(
            store=self._store,
            spool=self.spool,
            supervisor=supervisor,
            record=record,
            door=self._door,
            free_bytes=lambda: shutil.disk_usage(self._data_dir).free,
            window_s=self._window_s,
        )
        sender = Sender(
            journal=self.journal, supervisor=supervisor, metrics=self.metrics, clock=self._clock
        )
        return Running(
            session=identity,
            secrets=secrets,
            reporter=reporter,
            blacklist=listed,
            intake=intake,
            supervisor=supervisor,
            configs=configs,
            sender=sender,
            holds=holds,
            inference=Inference(
                lambda: configs.llm,
                # Reading the machine's certificates takes time: not before the first question.
                lambda: Outbound(door=self._door),
                metrics=self.metrics,
                now=time.monotonic,
            ),
            transcription=Transcription(
                lambda: configs.llm,
                lambda: Outbound(door=self._door),
                media=around.media,
                metrics=self.metrics,
                now=time.monotonic,
            ),
        )

    def _reporter(self, identity: Bootstrap, secret: Callable[[], str]) -> Reporter:
        return Reporter(
            http=self._http,
            url=f"{self._address}/events",
            session_id=identity.session_id,
            secret=secret,
            spool=self.spool,
            metrics=self.metrics,
            clock=self._clock,
            random=self._random,
        )

    def _holds(self, identity: Bootstrap, secret: Callable[[], str]) -> Holds:
        url = f"{self._address}/leases"
        claim = partial(session.claim, self._http, url, identity.session_id, secret, self._clock)
        return Holds(claim, every_s=identity.heartbeat_s, clock=time.monotonic)

    def _blacklist(self, record: blacklist.Record, secret: Callable[[], str]) -> Blacklist:
        url = f"{self._address}/blacklist"
        return Blacklist(
            store=self._store,
            spool=self.spool,
            pull=partial(blacklist.page, self._http, url, secret, self._clock),
            record=record,
            clock=self._clock,
            random=self._random,
        )

    def _surroundings(
        self, listed: Blacklist, intake: Intake, holds: Holds, secret: Callable[[], str]
    ) -> Surroundings:
        media = MediaStore(
            http=self._http,
            control_url=self._control_url,
            instance_id=self.instance_id,
            secret=secret,
            folder=self._data_dir,
            clock=self._clock,
            random=self._random,
        )
        return Surroundings(
            http=self._platforms,
            control=Control(url=self._control_url, http=self._http),
            media=media,
            blacklist=listed,
            intake=intake,
            late=Late(self.spool, clock=self._clock),
            metrics=self.metrics,
            clock=self._clock,
            random=self._random,
            holds=holds,
            door=self._door,
        )

    @property
    def _address(self) -> str:
        """What the control plane has for this instance."""
        return f"{self._control_url}/api/v1/instances/{self.instance_id}"

    async def _heartbeats(self, running: Running) -> None:
        def beat() -> Heartbeat:
            return Heartbeat(
                config=running.configs.state(),
                channels=running.supervisor.statuses(),
                spool_depth=self.spool.state.depth,
                spool_bytes=self.spool.state.bytes,
                blacklist=running.blacklist.version,
            )

        await session.heartbeats(
            running.reporter,
            beat,
            running.intake,
            every_s=running.session.heartbeat_s,
            metrics=self.metrics,
            clock=self._clock,
            random=self._random,
        )

    async def _sweep(self) -> None:
        while True:
            while await self.journal.clean(now=self._clock()):
                pass
            await asyncio.sleep(CLEAN_EVERY_S)

    def _observe(self) -> None:
        def age() -> float:
            oldest = self.spool.state.oldest_at
            return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

        self.metrics.spool_depth.set_function(lambda: self.spool.state.depth)
        self.metrics.spool_bytes.set_function(lambda: self.spool.state.bytes)
        self.metrics.spool_age.set_function(age)
        self.metrics.dead_letters.set_function(lambda: self.spool.dead_letters)
