"""What a group of batches changes, in one transaction."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from adapters.model import ConversationKey, Sender
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.dispatch import Dispatcher
from control_plane.kit.errors import Conflict, Gone
from control_plane.kit.ids import new_id
from instance_agent.document import DocumentError
from instance_agent.protocol import (
    ChannelStatus,
    ConfigApplied,
    ConfigRejected,
    Event,
    EventResult,
)

SUCCESSOR = """
INSERT INTO agent_sessions (id, tenant_id, instance_id, generation, state, epoch, endpoint,
    api_token, journal_id, version, schema_version, created_at, seen_at)
SELECT $1, tenant_id, instance_id, generation, 'active', epoch, endpoint, api_token, journal_id,
    version, schema_version, created_at, seen_at FROM agent_sessions RETURNING id
"""


@pytest.fixture
def dispatcher(database) -> Dispatcher:
    return Dispatcher(database)


def statuses(results: list[list[EventResult]]) -> list[list[str]]:
    return [[item.status for item in result] for result in results]


class TestGroup:
    async def test_tenants_of_one_group_do_not_mix(self, agents, agent, dispatcher, kept) -> None:
        other = await agents.make()

        results = (
            await dispatcher.write(
                [
                    agent.pending(agent.message("k1", "a1", visitor="a")),
                    other.pending(other.message("k1", "b1", visitor="b")),
                    agent.pending(agent.message("k2", "a2", visitor="a")),
                ]
            )
        )()

        assert statuses(results) == [["stored"], ["stored"], ["stored"]]
        assert await kept.texts() == [(1, "a1"), (2, "a2"), (1, "b1")]

    async def test_a_foreign_channel_is_rejected_though_its_owner_is_in_the_group(
        self, agents, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        other = await agents.make()

        results = (
            await dispatcher.write(
                [
                    agent.pending(
                        agent.message("k1", "stolen", channel_id=other.channel_id),
                        agent.event(
                            "channel.status",
                            ChannelStatus(channel_id=other.channel_id, state="failed"),
                        ),
                        checkpoints={str(other.channel_id): "stolen"},
                    ),
                    other.pending(other.message("k1", "own")),
                ]
            )
        )()

        assert statuses(results) == [["rejected", "stored"], ["stored"]]
        assert results[0][0].code == "unknown_channel"
        kept = await superuser.fetchrow(
            "SELECT state, checkpoint FROM channels WHERE id = $1", other.channel_id
        )
        assert tuple(kept) == ("connecting", None)
        messages = await superuser.fetch("SELECT tenant_id, segments->0->>'text' FROM messages")
        assert [tuple(row) for row in messages] == [(other.tenant_id, "own")]

    @pytest.mark.parametrize("more", [False, True], ids=["alone", "with more to say"])
    async def test_messages_of_a_group_keep_their_order_in_each_conversation(
        self, agents, agent, dispatcher, kept, superuser: asyncpg.Connection, more: bool
    ) -> None:
        other = await agents.make()
        room = ConversationKey(type="group", id="room")

        def in_room(key: str, who: str, name: str) -> Event:
            sender = Sender(id=who, name=name)
            return agent.message(key, key, visitor=who, conversation=room, sender=sender)

        await dispatcher.write(
            [
                agent.pending(in_room("r1", "a", "Ann"), agent.message("d1", "d1")),
                other.pending(other.message("o1", "o1", visitor="z")),
                agent.pending(in_room("r2", "b", "Bo"), in_room("r3", "a", "Anna")),
                agent.pending(agent.message("d2", "d2")),
                *([agent.pending(agent.beat())] if more else []),
            ]
        )

        assert await kept.texts() == [
            *[(1, "r1"), (2, "r2"), (3, "r3")],
            *[(1, "d1"), (2, "d2")],
            (1, "o1"),
        ]
        names = await superuser.fetch("SELECT name FROM contacts ORDER BY platform_id")
        assert [row["name"] for row in names] == ["Anna", "Bo", "Lin", "Lin"]
        told = await superuser.fetch(
            "SELECT tenant_id, seq, data->>'message_id' AS id FROM stream"
            " WHERE type = 'message.created' ORDER BY tenant_id, seq"
        )
        said = await superuser.fetch("SELECT id, segments->0->>'text' AS text FROM messages")
        texts = {str(row["id"]): row["text"] for row in said}
        mine = [texts[row["id"]] for row in told if row["tenant_id"] == agent.tenant_id]
        assert mine == ["r1", "d1", "r2", "r3", "d2"]

    async def test_what_was_there_before_keeps_nothing_new_from_being_stored(
        self, agents, agent, dispatcher, kept
    ) -> None:
        other = await agents.make()
        await dispatcher.write([agent.pending(agent.message("k1", "first"))])

        results = (
            await dispatcher.write(
                [
                    agent.pending(agent.message("k2", "second"), agent.message("k1", "first")),
                    other.pending(other.message("k1", "theirs", visitor="b")),
                    agent.pending(agent.message("k1", "not what it was")),
                ]
            )
        )()

        assert statuses(results) == [["stored", "duplicate"], ["stored"], ["conflict"]]
        assert await kept.texts() == [(1, "theirs"), (1, "first"), (2, "second")]

    async def test_twins_in_two_batches_of_a_group_are_one(self, agent, dispatcher, kept) -> None:
        results = (
            await dispatcher.write(
                [agent.pending(agent.message("k1")), agent.pending(agent.message("k1"))]
            )
        )()

        assert statuses(results) == [["stored"], ["duplicate"]]
        assert await kept.count("messages") == 1

    async def test_a_deleted_channel_is_unknown(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("UPDATE channels SET deleted_at = now()")

        results = (await dispatcher.write([agent.pending(agent.message("k1"))]))()

        assert results[0][0].code == "unknown_channel"

    async def test_an_empty_batch_changes_nothing(self, agent, dispatcher, kept) -> None:
        assert (await dispatcher.write([agent.pending()]))() == [[]]
        assert await kept.count("messages") == 0

    async def test_one_bad_batch_in_a_group_does_not_hurt_the_others(
        self, agents, agent, dispatcher, kept
    ) -> None:
        other = await agents.make()
        await dispatcher.write([agent.pending(webhook_id="w1")])
        commits = GroupCommit(dispatcher.write)
        batches = [
            agent.pending(agent.message("k1"), webhook_id="w1"),
            other.pending(other.message("k1", "good", visitor="b")),
            agent.pending(agent.message("k2", "good too", visitor="c")),
        ]
        answers = [
            asyncio.create_task(commits.submit(p.proven, p.batch, p.received_at)) for p in batches
        ]
        running = asyncio.create_task(commits.run())
        bad, good, too = await asyncio.gather(*answers, return_exceptions=True)
        commits.stop()
        await running

        assert isinstance(bad, Conflict)
        assert statuses([good, too]) == [["stored"], ["stored"]]
        assert await kept.texts() == [(1, "good"), (1, "good too")]


class TestCheckpoints:
    async def test_commit_with_the_events(
        self, agent, dispatcher, kept, superuser: asyncpg.Connection
    ) -> None:
        await dispatcher.write(
            [agent.pending(agent.message("k1"), checkpoints={str(agent.channel_id): "cursor-1"})]
        )

        assert await superuser.fetchval("SELECT checkpoint FROM channels") == "cursor-1"
        assert await kept.count("messages") == 1

    async def test_only_go_on_whatever_comes_late_or_together(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        channel = str(agent.channel_id)
        for texts in (["0002:b", "0003:c"], ["0003:c", "0001:a"]):
            await dispatcher.write(
                [agent.pending(agent.beat(), checkpoints={channel: text}) for text in texts]
            )

        assert await superuser.fetchval("SELECT checkpoint FROM channels") == "0003:c"

    async def test_do_not_move_when_the_events_are_not_stored(
        self, agents, agent, dispatcher, kept, superuser: asyncpg.Connection
    ) -> None:
        await agents.succeed(agent)

        with pytest.raises(Gone):
            await dispatcher.write(
                [
                    agent.pending(
                        agent.beat(),
                        checkpoints={str(agent.channel_id): "cursor-1"},
                        webhook_id="w1",
                    )
                ]
            )

        assert await superuser.fetchval("SELECT checkpoint FROM channels") is None
        assert await kept.count("batches") == 0


class TestChannelStatus:
    async def test_a_change_is_kept_told_and_looked_at(
        self, agent, dispatcher, clock, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("UPDATE work SET due_at = now() + interval '1 hour'")
        seen = clock.now() - timedelta(seconds=3)
        status = ChannelStatus(channel_id=agent.channel_id, state="connected", proof_at=seen)

        await dispatcher.write([agent.pending(agent.event("channel.status", status))])

        channel = await superuser.fetchrow("SELECT state, state_reason, proof_at FROM channels")
        told = await superuser.fetchval("SELECT data FROM stream WHERE type = 'channel.status'")
        noted = await superuser.fetchval(
            "SELECT message FROM timeline WHERE type = 'channel.status'"
        )
        assert tuple(channel) == ("connected", None, seen)
        assert json.loads(told)["state"] == "connected"
        assert noted == "channel connected"
        assert await superuser.fetchval("SELECT due_at <= now() FROM work WHERE kind = 'instance'")

    async def test_what_an_agent_says_after_its_successors_word_counts_for_nothing(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("UPDATE agent_sessions SET state = 'draining'")
        successor = replace(agent, session_id=await superuser.fetchval(SUCCESSOR, new_id()))
        for who, state in ((successor, "connected"), (agent, "stopped")):
            status = ChannelStatus(channel_id=agent.channel_id, state=state)
            await dispatcher.write([who.pending(who.event("channel.status", status))])

        assert await superuser.fetchval("SELECT state FROM channels") == "connected"

    async def test_the_same_again_only_renews_the_proof(
        self, agent, dispatcher, clock, superuser: asyncpg.Connection
    ) -> None:
        proofs = [clock.now(), clock.now() + timedelta(seconds=20), None]
        for proof in proofs:
            status = ChannelStatus(channel_id=agent.channel_id, state="connected", proof_at=proof)
            await dispatcher.write([agent.pending(agent.event("channel.status", status))])

        assert await superuser.fetchval("SELECT proof_at FROM channels") == proofs[1]
        assert (
            await superuser.fetchval("SELECT count(*) FROM stream WHERE type = 'channel.status'")
            == 1
        )


class TestConfiguration:
    DIGEST = "a" * 64

    async def delivered(self, superuser: asyncpg.Connection, number: int, digest: str) -> None:
        await superuser.execute(
            "UPDATE config_states SET delivered = $1, delivered_sha256 = $2", number, digest
        )

    async def state(self, superuser: asyncpg.Connection) -> dict:
        return dict(await superuser.fetchrow("SELECT * FROM config_states"))

    async def test_applied_is_the_last_good_one(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        await self.delivered(superuser, 3, self.DIGEST)
        applied = ConfigApplied(revision=3, sha256=self.DIGEST)

        for _ in range(2):
            await dispatcher.write([agent.pending(agent.event("config.applied", applied))])

        state = await self.state(superuser)
        assert (state["applied"], state["last_good"], state["rejected"]) == (3, 3, None)
        assert (
            await superuser.fetchval("SELECT count(*) FROM stream WHERE type = 'config.applied'")
            == 1
        )

    async def test_rejected_says_where_and_falling_back_does_not_unsay_it(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        await self.delivered(superuser, 3, self.DIGEST)
        wrong = DocumentError(path="/channels/0/settings", code="bad", message="not so")
        rejected = ConfigRejected(revision=3, running=2, errors=[wrong])
        fallen_back = ConfigApplied(revision=2, sha256="b" * 64)

        await dispatcher.write(
            [
                agent.pending(
                    agent.event("config.rejected", rejected),
                    agent.event("config.applied", fallen_back),
                )
            ]
        )

        state = await self.state(superuser)
        assert (state["applied"], state["last_good"]) == (2, 2)
        assert (state["rejected"], state["rejected_sha256"]) == (3, self.DIGEST)
        assert json.loads(state["errors"]) == [
            {"path": "/channels/0/settings", "code": "bad", "message": "not so"}
        ]

    async def test_the_newest_applied_after_all_is_rejected_no_more(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        await self.delivered(superuser, 3, self.DIGEST)
        rejected = ConfigRejected(revision=3, running=None, errors=[])
        await dispatcher.write([agent.pending(agent.event("config.rejected", rejected))])

        applied = ConfigApplied(revision=3, sha256=self.DIGEST)
        await dispatcher.write([agent.pending(agent.event("config.applied", applied))])

        state = await self.state(superuser)
        assert (state["applied"], state["rejected"], state["rejected_sha256"]) == (3, None, None)


class TestHeartbeat:
    async def test_only_news_in_it_is_worth_a_look(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        due = []
        for spool_depth in (0, 5):
            await superuser.execute("UPDATE work SET due_at = now() + interval '1 hour'")
            await dispatcher.write([agent.pending(agent.beat(spool_depth=spool_depth))])
            due.append(
                await superuser.fetchval("SELECT due_at <= now() FROM work WHERE kind = 'instance'")
            )

        # The first says that a configuration is applied, the second nothing new.
        assert due == [True, False]

    async def test_of_a_session_that_never_was_is_an_end(self, agent, dispatcher) -> None:
        agent.session_id = new_id()

        with pytest.raises(Gone):
            await dispatcher.write([agent.pending(agent.beat())])


class TestUnstorable:
    async def test_a_nul_anywhere_becomes_a_replacement_character(
        self, agent, dispatcher, superuser: asyncpg.Connection
    ) -> None:
        """An agent repeats a batch until it is accepted: nothing in it may fail for ever."""
        wrong = DocumentError(path="/a\0", code="bad", message="no\0")
        beat = agent.beat()
        beat.data["config"]["errors"] = [{"path": "\0", "code": "\0", "message": "\0"}]
        failed = ChannelStatus(channel_id=agent.channel_id, state="failed", reason="a\0b")

        results = (
            await dispatcher.write(
                [
                    agent.pending(
                        agent.event("channel.status", failed),
                        agent.event(
                            "config.rejected", ConfigRejected(revision=1, running=0, errors=[wrong])
                        ),
                        agent.event("config.applied", ConfigApplied(revision=1, sha256="\0")),
                        beat,
                    )
                ]
            )
        )()

        assert statuses(results) == [["stored"] * 4]
        assert await superuser.fetchval("SELECT state_reason FROM channels") == "a\ufffdb"
