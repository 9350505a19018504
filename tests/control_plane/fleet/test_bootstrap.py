"""The exchange of a single-use token for an agent's session, over HTTP."""

import time
from dataclasses import replace
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from itsdangerous import TimestampSigner

from control_plane.db.session import Scope
from control_plane.fleet.bootstrap import TOKEN_LIFE, Proof
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.instances.sessions import activate, active_agent
from control_plane.kit.errors import Unavailable
from control_plane.kit.ids import new_id
from instance_agent.protocol import Bootstrap, ConfigRejected


@pytest.fixture
async def instance_id(fleet) -> UUID:
    return await fleet.create()


@pytest.fixture
def spec(fleet, instance_id: UUID) -> InstanceSpec:
    return InstanceSpec(instance_id=instance_id, tenant_id=fleet.owner.tenant_id, generation=1)


class Door:
    """Where agents knock."""

    def __init__(self, fleet, client: httpx2.AsyncClient) -> None:
        self._fleet = fleet
        self._client = client

    async def knock(
        self, instance_id: UUID, token: str | None, *, body: bytes | None = None
    ) -> httpx2.Response:
        return await self._client.post(
            f"/api/v1/instances/{instance_id}/bootstrap",
            content=msgspec.json.encode(self._fleet.request()) if body is None else body,
            headers={} if token is None else {"authorization": f"Bearer {token}"},
        )

    async def enter(self, spec: InstanceSpec) -> Bootstrap:
        answer = await self.knock(spec.instance_id, self._fleet.parts.bootstraps.mint(spec))
        assert answer.status_code == 200
        return msgspec.json.decode(answer.content, type=Bootstrap)


@pytest.fixture
def door(fleet, client: httpx2.AsyncClient) -> Door:
    return Door(fleet, client)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestExchange:
    async def test_gives_a_standby_session_and_all_that_an_agent_needs(
        self, fleet, spec, door, superuser: asyncpg.Connection
    ) -> None:
        answer = await door.knock(spec.instance_id, fleet.parts.bootstraps.mint(spec))
        given = msgspec.json.decode(answer.content, type=Bootstrap)

        session = await superuser.fetchrow("SELECT id, state, generation FROM agent_sessions")
        channel = await superuser.fetchval("SELECT id::text FROM channels")
        assert answer.headers["cache-control"] == "no-store"
        assert tuple(session) == (given.session_id, "standby", 1)
        assert given.newest.number == 0
        assert [item["id"] for item in given.newest.document["channels"]] == [channel]
        assert (given.last_good, given.checkpoints, given.heartbeat_s) == (None, {}, 10.0)
        assert given.webhook_secrets[0].startswith("whsec_")

    async def test_what_it_gives_lies_sealed(
        self, spec, door, superuser: asyncpg.Connection
    ) -> None:
        given = await door.enter(spec)

        kept = [
            row[0]
            for table in ("agent_sessions", "credentials", "timeline", "stream", "audit")
            for row in await superuser.fetch(f"SELECT {table}::text FROM {table}")  # noqa: S608
        ]
        for secret in (given.api_token, *given.webhook_secrets):
            assert not any(secret in row or secret.encode().hex() in row for row in kept)

    async def test_gives_the_checkpoints_that_were_kept(
        self, fleet, spec, door, superuser: asyncpg.Connection
    ) -> None:
        channel = await superuser.fetchval(
            "UPDATE channels SET checkpoint = 'cursor-7' RETURNING id::text"
        )

        assert (await door.enter(spec)).checkpoints == {channel: "cursor-7"}

    async def test_the_secrets_stay_the_same_over_sessions_and_the_token_does_not(
        self, spec, door
    ) -> None:
        first, second = await door.enter(spec), await door.enter(spec)

        assert first.webhook_secrets == second.webhook_secrets
        assert first.api_token != second.api_token
        assert first.session_id != second.session_id

    async def test_gives_the_last_good_revision_beside_one_that_was_refused(
        self, fleet, door
    ) -> None:
        instance_id, given = await fleet.run()
        written = await fleet.owner.post(
            f"/instances/{instance_id}/revisions", {"document": {"persona": {"name": "Mei"}}}
        )
        await fleet.owner.post(f"/revisions/{written.json()['id']}/publish")
        refused = ConfigRejected(revision=1, running=0, errors=[])
        await fleet.report(instance_id, given.session_id, ("config.rejected", refused))
        tenant_id = fleet.owner.tenant_id

        again = await door.enter(
            InstanceSpec(instance_id=instance_id, tenant_id=tenant_id, generation=1)
        )

        assert again.newest.number == 1
        assert again.newest.document["persona"]["name"] == "Mei"
        assert again.last_good == given.newest

    async def test_has_the_fleet_look(self, fleet, spec, door, superuser) -> None:
        await fleet.look(spec.instance_id)

        await door.enter(spec)

        assert await superuser.fetchval(
            "SELECT due_at <= now() FROM work WHERE kind = 'instance' AND key = $1",
            spec.instance_id,
        )


class TestRefusal:
    async def test_a_token_opens_once(self, fleet, spec, door, superuser) -> None:
        token = fleet.parts.bootstraps.mint(spec)
        await door.knock(spec.instance_id, token)

        assert code(await door.knock(spec.instance_id, token)) == (403, "bootstrap_token_used")
        assert await superuser.fetchval("SELECT count(*) FROM agent_sessions") == 1

    async def test_a_token_of_another_instance_opens_nothing(self, fleet, spec, door) -> None:
        other = await fleet.create()
        token = fleet.parts.bootstraps.mint(spec)

        assert code(await door.knock(other, token)) == (401, "invalid_bootstrap_token")
        # It was not used up by that.
        assert (await door.knock(spec.instance_id, token)).status_code == 200

    async def test_an_old_token_opens_nothing(
        self, fleet, spec, door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        then = int(time.time()) - int(TOKEN_LIFE.total_seconds()) - 1
        with monkeypatch.context() as patched:
            patched.setattr(TimestampSigner, "get_timestamp", lambda _self: then)
            token = fleet.parts.bootstraps.mint(spec)

        assert code(await door.knock(spec.instance_id, token)) == (401, "invalid_bootstrap_token")

    @pytest.mark.parametrize("token", [None, "", "not-a-token"])
    async def test_what_is_no_token_opens_nothing(self, spec, door, token: str | None) -> None:
        assert code(await door.knock(spec.instance_id, token)) == (401, "invalid_bootstrap_token")

    async def test_a_persons_token_opens_nothing(self, fleet, spec, door) -> None:
        answer = await door.knock(spec.instance_id, fleet.owner.token)

        assert code(answer) == (401, "invalid_bootstrap_token")

    async def test_an_older_generation_is_gone(self, fleet, spec, door) -> None:
        token = fleet.parts.bootstraps.mint(spec)
        await fleet.owner.post(f"/instances/{spec.instance_id}/restart")

        assert code(await door.knock(spec.instance_id, token)) == (410, "stale_generation")

    async def test_a_stopped_instance_wants_no_agent(self, fleet, spec, door) -> None:
        await fleet.owner.post(f"/instances/{spec.instance_id}/stop")
        token = fleet.parts.bootstraps.mint(replace(spec, generation=2))

        assert code(await door.knock(spec.instance_id, token)) == (410, "stale_generation")

    async def test_an_instance_that_is_not_there_any_more_is_gone(self, fleet, spec, door) -> None:
        await fleet.owner.delete(f"/instances/{spec.instance_id}")
        await fleet.look(spec.instance_id)
        token = fleet.parts.bootstraps.mint(spec)

        assert code(await door.knock(spec.instance_id, token)) == (410, "instance_gone")

    async def test_an_instance_that_never_was_is_gone(self, fleet, spec, door) -> None:
        never = replace(spec, instance_id=new_id())
        token = fleet.parts.bootstraps.mint(never)

        assert code(await door.knock(never.instance_id, token)) == (410, "instance_gone")

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"protocol": 1}', b"\xff"])
    async def test_a_body_that_cannot_be_read_does_not_use_the_token_up(
        self, fleet, spec, door, body: bytes
    ) -> None:
        token = fleet.parts.bootstraps.mint(spec)

        answer = await door.knock(spec.instance_id, token, body=body)

        assert code(answer) == (400, "malformed_bootstrap")
        assert (await door.knock(spec.instance_id, token)).status_code == 200


class TestActivation:
    async def test_raises_the_epoch_and_lets_the_former_agent_drain(
        self, fleet, spec, door
    ) -> None:
        house = fleet.parts.house
        given = [await door.enter(spec), await door.enter(spec)]
        async with house.database.session(Scope(tenants=(spec.tenant_id,))) as session:
            epochs = [
                await activate(session, instance_id=spec.instance_id, session_id=item.session_id)
                for item in given
            ]
            agent = await active_agent(session, house.keys, spec.instance_id)

        assert epochs == [1, 2]
        assert await fleet.sessions(spec.instance_id) == [("draining", 1), ("active", 2)]
        assert (agent.session_id, agent.api_token, agent.epoch) == (
            given[1].session_id,
            given[1].api_token,
            2,
        )

    async def test_a_session_that_had_its_turn_does_not_come_back(self, fleet, spec, door) -> None:
        given = [await door.enter(spec), await door.enter(spec)]
        async with fleet.parts.house.database.session(Scope(tenants=(spec.tenant_id,))) as session:
            for item in given:
                await activate(session, instance_id=spec.instance_id, session_id=item.session_id)

            former = given[0].session_id
            epoch = await activate(session, instance_id=spec.instance_id, session_id=former)

        assert epoch is None


class Vouches:
    """Knows one token, as a cluster knows its pods'."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof
        self.asked: list[tuple] = []
        self.away = False

    async def vouch(self, instance_id: UUID, tenant_id: UUID, cell: str, token: str):
        self.asked.append((instance_id, tenant_id, cell))
        if self.away:
            raise Unavailable("cluster_away", "Pods cannot be recognised now.")
        return self.proof if token == "a.pods.token" else None


@pytest.fixture
def vouches(fleet, spec) -> Vouches:
    fleet.parts.bootstraps.voucher = Vouches(
        Proof(
            tenant_id=spec.tenant_id,
            instance_id=spec.instance_id,
            generation=1,
            endpoint="https://10.1.2.3:8443",
        )
    )
    return fleet.parts.bootstraps.voucher


class TestAPod:
    """The other proof of a start; F5."""

    async def test_gets_what_any_agent_gets_and_a_certificate(
        self, fleet, spec, door, vouches, superuser
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = key.public_bytes(serialization.Encoding.PEM, info)
        body = msgspec.structs.replace(fleet.request(), public_key=pem.decode())

        answer = await door.knock(spec.instance_id, "a.pods.token", body=msgspec.json.encode(body))

        given = msgspec.json.decode(answer.content, type=Bootstrap)
        assert x509.load_pem_x509_certificate(given.certificate.encode()).public_key() == key
        assert vouches.asked == [(spec.instance_id, spec.tenant_id, "")]
        kept = await superuser.fetchrow("SELECT id, endpoint FROM agent_sessions")
        # Where the cluster says that the pod is, not where the agent says so.
        assert tuple(kept) == (given.session_id, "https://10.1.2.3:8443")

    async def test_may_come_again_when_its_container_starts_again(
        self, spec, door, vouches
    ) -> None:
        answers = [await door.knock(spec.instance_id, "a.pods.token") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]

    async def test_of_an_older_generation_is_gone(self, spec, door, vouches) -> None:
        vouches.proof = replace(vouches.proof, generation=0)
        answer = await door.knock(spec.instance_id, "a.pods.token")
        assert code(answer) == (410, "stale_generation")

    async def test_of_another_instance_is_refused(self, spec, door, vouches) -> None:
        vouches.proof = replace(vouches.proof, instance_id=new_id())
        answer = await door.knock(spec.instance_id, "a.pods.token")
        assert code(answer) == (401, "invalid_bootstrap_token")

    async def test_that_nobody_knows_is_refused(self, spec, door, vouches) -> None:
        answer = await door.knock(spec.instance_id, "another.pods.token")
        assert code(answer) == (401, "invalid_bootstrap_token")
        answer = await door.knock(new_id(), "a.pods.token")
        assert code(answer) == (401, "invalid_bootstrap_token")

    async def test_comes_again_while_the_cluster_is_away(self, spec, door, vouches) -> None:
        vouches.away = True
        answer = await door.knock(spec.instance_id, "a.pods.token")
        assert code(answer) == (503, "cluster_away")

    async def test_with_a_key_that_is_none_is_told_so(self, fleet, spec, door, vouches) -> None:
        body = msgspec.structs.replace(fleet.request(), public_key="mine")
        answer = await door.knock(spec.instance_id, "a.pods.token", body=msgspec.json.encode(body))
        assert code(answer) == (400, "invalid_public_key")
