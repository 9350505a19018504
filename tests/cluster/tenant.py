"""One tenant with a bot in a pod: its people, its customers, what there is of it in the cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import httpx2

from adapters.simulators.wecom import WeCom
from control_plane.fleet.provision.kubernetes_manifests import INSTANCE, agent_name
from tests.cluster.api import Api, Json
from tests.cluster.house import PATIENCE_S, House
from tests.cluster.nodes import Nodes
from tests.e2e.conftest import until
from tests.faults.customers import Guest, Member, guests, write
from tests.faults.installation import ANSWERS, BOSS, sign_in
from tests.model_provider import KEY, ModelProvider

PAUSE_S = (3.0, 7.0)
"""Between messages of one person: the platform shows a member thirty answers a minute."""

MAX_SAID = 1000
UNKNOWN = "能帮我修一下自行车吗？"
"""What only a model can answer."""


@dataclass
class Tenant:
    """Somebody asks on each platform at every step; others write all along."""

    house: House
    nodes: Nodes
    api: Api
    wecom: WeCom
    provider: ModelProvider
    prefix: str
    boss: httpx2.AsyncClient
    operator: httpx2.AsyncClient
    id: str = ""
    bot: str = ""
    model: str = ""
    webchat_url: str = ""
    channels: list[str] = field(default_factory=list)
    guest: Guest = field(init=False)
    member: Member = field(init=False)
    people: list[Guest | Member] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)
    asked: int = 0

    # --- what its people do ------------------------------------------------------------------

    async def register(self) -> None:
        await self.boss.post("/auth/register", json={"company": "茶馆", **BOSS})
        [waiting] = (await self.operator.get("/tenants?state=pending")).json()["items"]
        self.id = waiting["id"]
        done(await self.operator.post(f"/tenants/{self.id}/approve"))
        await sign_in(self.boss, BOSS)

    async def furnish(self, wecom_url: str, provider_url: str) -> None:
        """A list of answers, a model's provider, a bot with two channels."""
        items = [{"question": q, "answer": a} for q, a in ANSWERS.items()]
        done(await self.boss.put("/answers", json={"items": items}))
        account = {"name": "M", "kind": "openai", "base_url": provider_url, "api_key": KEY}
        self.model = done(await self.boss.post("/providers", json=account))["id"]
        self.bot = done(await self.boss.post("/instances", json={"name": "b"}))["id"]
        for body in (
            {
                "kind": "wecom",
                "name": "客服",
                "settings": self.wecom.settings | {"base_url": wecom_url},
            },
            {"kind": "webchat", "name": "Site"},
        ):
            made = done(await self.boss.post(f"/instances/{self.bot}/channels", json=body))
            self.channels.append(made["id"])
            self.webchat_url = made["webchat_url"] or self.webchat_url
            self.wecom.callback_url = made["callback_url"] or self.wecom.callback_url

    async def publish(self, document: Json) -> int:
        """A revision, published; its number."""
        path = f"/instances/{self.bot}/revisions"
        made = done(await self.boss.post(path, json={"document": document}))
        done(await self.boss.post(f"/revisions/{made['id']}/publish"))
        number: int = made["number"]
        return number

    def document(self, model: str, **sections: Json) -> Json:
        return {"llm": {"models": [{"provider": self.model, "model": model}]}, **sections}

    async def rolls_out(self, release: Json, *, ready_within_s: int) -> Json:
        """A release, brought out to all bots by the operator; how that ended."""
        made = done(await self.operator.post("/releases", json=release))
        careful = {"release": made["number"], "waves": [0, 100], "watch_s": 3}
        careful["ready_within_s"] = ready_within_s
        started = done(await self.operator.post("/rollouts", json=careful))

        async def ended() -> Json | None:
            now: Json = done(await self.operator.get(f"/rollouts/{started['id']}"))
            return now if now["ended_at"] else None

        rollout: Json = await until(ended, "the rollout ends", 2 * PATIENCE_S)
        return rollout

    # --- what can be seen --------------------------------------------------------------------

    async def standing(self) -> Json:
        answer = await self.boss.get(f"/instances/{self.bot}/revisions")
        found: Json = done(answer)["standing"]
        return found

    async def instance(self) -> Json:
        return done(await self.operator.get(f"/instances/{self.bot}"))

    async def is_connected(self, phase: str = "running") -> None:
        """The bot runs and both its channels are connected."""

        async def so() -> bool:
            states = [
                done(await self.boss.get(f"/channels/{each}"))["state"] for each in self.channels
            ]
            now = done(await self.boss.get(f"/instances/{self.bot}"))["phase"]
            return now == phase and set(states) == {"connected"}

        await until(so, f"a bot that is {phase} and connected", PATIENCE_S)

    async def pods(self) -> list[Json]:
        found = await self.api.get("/api/v1/pods", labelSelector=f"{INSTANCE}={self.bot}")
        pods: list[Json] = found["items"]
        return pods

    async def pod(self) -> Json:
        """The one there is."""
        [pod] = await self.pods()
        return pod

    async def start(self) -> tuple[str, int]:
        """Names the container that runs: another one is another start."""
        pod = await self.pod()
        return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]

    async def another_pod(self, than: Json) -> Json:
        """The next one, once it runs alone."""

        async def so() -> Json | None:
            found = await self.pods()
            alone = len(found) == 1 and found[0]["metadata"]["uid"] != than["metadata"]["uid"]
            return found[0] if alone and found[0]["status"]["phase"] == "Running" else None

        pod: Json = await until(so, "another pod", PATIENCE_S)
        return pod

    @property
    def namespace(self) -> str:
        return f"{self.prefix}{UUID(self.id).hex}"

    @property
    def agent(self) -> str:
        """The name of what is this bot's own."""
        return agent_name(UUID(self.bot))

    def path(self, kind: str, name: str, group: str = "api/v1") -> str:
        """Where an object of this tenant is."""
        return f"/{group}/namespaces/{self.namespace}/{kind}/{name}"

    # --- its customers -----------------------------------------------------------------------

    async def answers(self) -> None:
        """Somebody on each platform asks and is answered, and told nothing else."""
        question = list(ANSWERS)[self.asked % len(ANSWERS)]
        await self.tells(question, ANSWERS[question])

    async def tells(self, question: str, answer: str) -> None:
        """Both are told this."""
        self.asked += 1
        for who in (self.guest, self.member):
            before = len(who.told)
            await who.say(f"asks-{who.name}-{self.asked}", question)

            async def so(who: Guest | Member = who, before: int = before) -> bool:
                return len(who.told) > before

            await until(so, f"{who.name} is answered", PATIENCE_S)
            assert who.told[before:] == [answer]


def done(answer: httpx2.Response) -> Any:
    """What it says; it must be well."""
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


@asynccontextmanager
async def busy(tenant: Tenant, random: Random, end: asyncio.Event) -> AsyncIterator[None]:
    """Customers write until `end`, and those who ask have their pages open."""
    async with AsyncExitStack() as stack:
        visitors = await stack.enter_async_context(guests(tenant.webchat_url, 2))
        members = [Member(tenant.wecom, name) for name in ("asks", "writes")]
        tenant.wecom.members |= {member.name for member in members}
        tenant.guest, tenant.member = visitors[0], members[0]
        tenant.people, tenant.guests = [*visitors, *members], visitors
        texts = list(ANSWERS)
        writing = [
            asyncio.create_task(
                write(
                    who,
                    texts,
                    Random(random.random()),
                    end,
                    pause_s=PAUSE_S,
                    most=MAX_SAID,
                    pictures=0,
                )
            )
            for who in (visitors[1], members[1])
        ]
        try:
            yield
        finally:
            end.set()
            await asyncio.gather(*writing)
