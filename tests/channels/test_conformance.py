"""What every kind of channel must do, against its platform's stand-in, through the whole house.

One installation a kind: the real control plane, real agent processes, real sockets. Each test has
customers of its own.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from adapters.simulators.platform import Line
from control_plane.access import passwords
from control_plane.instances import accounts
from control_plane.kit.ids import new_id
from tests.channels.installation import (
    PATIENCE_S,
    QUESTIONS,
    Installation,
    Said,
    answer_to,
    installed,
    of,
    simulated,
    until,
)
from tests.conftest import Ground

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8"
    b"\xcf\xc0\xf0\x1f\0\5\0\1\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82"
)
AMR = b"#!AMR\n" + b"\x3c\x48\xf5\x1f\x96\x66\x78\x00\x00\x01\xe7\x8a\xf0\x00\x00\x00" * 20
CUSTOMERS = 20
"""Of a burst, each with all questions: two hundred messages."""
TYPING_S = 0.01
"""Between two lines of one customer, so that a burst is under way when something happens to it."""

_numbers = itertools.count(10_001)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=simulated())
async def house(
    request: pytest.FixtureRequest, ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    database = f"test_{new_id().hex[-12:]}"
    await ground.create(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", 4)
        # Longer than any test waits: whoever follows a killed agent must not need its end.
        patch.setattr(accounts, "LIFE", timedelta(hours=1))
        place = tmp_path_factory.mktemp(request.param)
        async with installed(ground, database, place, request.param) as house:
            yield house
    await ground.drop(database)


@pytest.fixture
def customer() -> str:
    """Somebody nobody knows yet."""
    return str(next(_numbers))


def need(house: Installation, what: bool, why: str) -> None:
    if not what:
        pytest.skip(f"{house.kind.name} {why}")


async def answered(house: Installation, user: str, *texts: str) -> None:
    """Exactly these were shown to the customer, and nothing more comes."""

    async def shown() -> bool:
        return len(house.platform.shown(user)) >= len(texts)

    await until(shown, f"answers to {user}")
    await house.settled()
    assert [each.text for each in house.platform.shown(user)] == list(texts)


async def handed_over(house: Installation) -> None:
    async def nothing_left() -> bool:
        return house.platform.unacknowledged == 0

    await until(nothing_left, "an empty platform")


class TestIn:
    async def test_text_gets_its_answer(self, house: Installation, customer: str) -> None:
        await house.platform.bring(Line(user=customer, text=QUESTIONS[0]))

        await answered(house, customer, answer_to(QUESTIONS[0]))
        assert [(each.kind, each.text) for each in await house.thread(customer)] == [
            ("contact", QUESTIONS[0]),
            ("bot", answer_to(QUESTIONS[0])),
        ]

    @pytest.mark.parametrize("what", ["image", "voice"])
    async def test_media_are_kept_in_our_own_store(
        self, house: Installation, customer: str, what: str
    ) -> None:
        need(house, what in house.kind.receives, f"brings no {what}")
        need(house, what not in house.kind.words_only, f"brings words alone for {what}")
        medium = {"image": {"picture": PNG}, "voice": {"voice": AMR}}[what]

        assert await until(
            lambda: house.platform.bring(Line(user=customer, id=f"{customer}99", **medium)), what
        )

        [said] = await house.heard(customer)
        [segment] = said.segments
        assert (segment["type"], segment["ref"]["via"]) == (what, "media"), segment

    async def test_a_quote_is_known_as_one(self, house: Installation, customer: str) -> None:
        need(house, "reply" in house.kind.receives, "brings no quotes")
        await house.platform.bring(Line(user=customer, text=QUESTIONS[0]))
        await answered(house, customer, answer_to(QUESTIONS[0]))
        [shown] = house.platform.shown(customer)
        await house.platform.bring(Line(user=customer, text=QUESTIONS[1], quotes=shown.id))

        said = (await house.heard(customer, 2))[-1]
        assert [each["type"] for each in said.segments] == ["reply", "text"]

    async def test_a_group_that_mentions_the_bot_is_answered_there(
        self, house: Installation, customer: str
    ) -> None:
        need(house, "group" in house.kind.conversations, "brings no groups")
        chat = f"9{customer}"
        await house.platform.bring(Line(user=customer, chat=chat, text=QUESTIONS[0]))

        async def shown() -> bool:
            return bool(house.platform.shown(chat=chat))

        await until(shown, "an answer in the group")
        assert answer_to(QUESTIONS[0]) in house.platform.shown(chat=chat)[0].text


class TestBlocked:
    async def test_who_is_not_heard_costs_nothing_and_is_shown_nothing(
        self, house: Installation, customer: str
    ) -> None:
        platform = house.platform
        await platform.bring(Line(user=customer, text=QUESTIONS[0]))
        await answered(house, customer, answer_to(QUESTIONS[0]))
        entry = await house.block(customer)

        async def kept_away() -> bool:
            # Until the bot has heard of it, it goes on answering.
            await platform.bring(Line(user=customer, text=QUESTIONS[0]))
            return await house.kept_away(entry)

        await until(kept_away, "a message that was kept away")
        await house.settled()
        before = platform.calls["media"], platform.shown(customer), await house.thread(customer)
        medium = {"picture": PNG} if "image" in house.kind.receives else {"text": QUESTIONS[1]}

        assert await platform.bring(Line(user=customer, **medium))

        # What somebody else says behind it has gone the same way to its end.
        other = str(next(_numbers))
        await platform.bring(Line(user=other, text=QUESTIONS[0]))
        await answered(house, other, answer_to(QUESTIONS[0]))
        after = platform.calls["media"], platform.shown(customer), await house.thread(customer)
        assert after == before
        await handed_over(house)


class TestOut:
    async def test_a_token_that_ends_early_costs_nothing(
        self, house: Installation, customer: str
    ) -> None:
        house.platform.expire_tokens()
        await house.platform.bring(Line(user=customer, text=QUESTIONS[0]))

        await answered(house, customer, answer_to(QUESTIONS[0]))

    async def test_too_often_is_only_later(self, house: Installation, customer: str) -> None:
        house.platform.limit(2)
        try:
            await house.platform.bring(Line(user=customer, text=QUESTIONS[0]))
            await answered(house, customer, answer_to(QUESTIONS[0]))
        finally:
            house.platform.limit(0)


class TestConnection:
    async def test_one_that_is_cut_comes_back_and_nothing_is_missing(
        self, house: Installation, customer: str
    ) -> None:
        await house.platform.bring(Line(user=customer, text=QUESTIONS[0]))
        await answered(house, customer, answer_to(QUESTIONS[0]))
        await house.platform.disconnect()
        await bring(house, customer, 1)

        await answered(house, customer, *map(answer_to, QUESTIONS[:2]))


class Burst:
    """Two hundred messages, and which of them the platform was told that we have."""

    def __init__(self, house: Installation) -> None:
        self._house = house
        self.acknowledged: dict[str, list[str]] = {
            str(next(_numbers)): [] for _ in range(CUSTOMERS)
        }
        self.half = asyncio.Event()

    async def bring(self) -> None:
        """Customers side by side, each in order; what is not taken is said again, as people do."""
        async with asyncio.TaskGroup() as group:
            for user in self.acknowledged:
                group.create_task(self._of(user))

    async def _of(self, user: str) -> None:
        for index in range(len(QUESTIONS)):
            await bring(self._house, user, index)
            self.acknowledged[user].append(QUESTIONS[index])
            if sum(map(len, self.acknowledged.values())) >= CUSTOMERS * len(QUESTIONS) / 2:
                self.half.set()
            await asyncio.sleep(TYPING_S)

    async def stored(self) -> dict[str, list[Said]]:
        """All threads when the platform has nothing left for us and every answer has its end."""

        await handed_over(self._house)
        return await self._house.settled()

    def lost(self, threads: dict[str, list[Said]]) -> int:
        """How many are nowhere; those that are there are once and in order."""
        lost = 0
        for user, said in self.acknowledged.items():
            heard = [each.text for each in of(threads, user) if each.kind == "contact"]
            assert heard == [each for each in said if each in heard]
            lost += len(said) - len(heard)
        return lost

    def doubled(self, threads: dict[str, list[Said]]) -> list[str]:
        """Customers who saw an answer twice, other than one that says nobody knows."""
        found = []
        for user in self.acknowledged:
            answers = [each for each in of(threads, user) if each.kind == "bot"]
            # An adapter may show signs of its own beside them: that an answer stands further down.
            shown = [
                each.text
                for each in self._house.platform.shown(user)
                if each.text in map(answer_to, QUESTIONS)
            ]
            sent = [each.text for each in answers if each.delivery == "sent"]
            unsure = [each.text for each in answers if each.delivery == "unconfirmed"]
            # In order: all that was sent, and of the unsure ones each at most once.
            allowed = [each.text for each in answers if each.text in sent or each.text in unsure]
            if [each for each in allowed if each in shown] != shown or set(sent) - set(shown):
                found.append(user)
        return found


class TestBurst:
    async def test_an_agent_killed_in_it_loses_and_doubles_nothing(
        self, house: Installation, record_property
    ) -> None:
        burst = Burst(house)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(burst.bring())
            await burst.half.wait()
            await house.kill_agent()
            spooled = house.spooled()
        await house.connected()
        # What nobody heard meanwhile is told where the platform says it to nobody else.
        shown = (await house.owner.get(f"/channels/{house.channel_id}")).json()
        assert bool(shown["gaps"]) == house.kind.loses(house.platform.settings), shown
        # A platform that says everything once counts as heard what was still in the socket.
        once = house.kind.acknowledge == "spooled"
        if not once:
            await self._all_there(house, burst)
        await self._stored(house, spooled)

        threads = await burst.stored()
        lost = burst.lost(threads)
        record_property("lost_on_the_way", lost)
        record_property("on_the_disk", len(spooled))
        assert lost == 0 or once
        assert burst.doubled(threads) == []

    async def test_an_agent_killed_with_its_disk_loses_only_what_the_disk_alone_had(
        self, house: Installation, record_property
    ) -> None:
        burst = Burst(house)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(burst.bring())
            await burst.half.wait()
            await house.kill_agent(with_its_disk=True)
        await house.connected()
        if house.kind.acknowledge == "stored":
            await self._all_there(house, burst)

        threads = await burst.stored()
        lost = burst.lost(threads)
        record_property("lost_with_the_disk", lost)
        print(f"{house.kind.name}: {lost} of {CUSTOMERS * len(QUESTIONS)} were on the disk alone")
        assert lost == 0 or house.kind.acknowledge != "stored"
        assert burst.doubled(threads) == []

    async def _stored(self, house: Installation, spooled: list[tuple[str, str]]) -> None:
        async def stored() -> bool:
            threads = await house.threads()
            return all(
                text in [each.text for each in threads.get(key, [])] for key, text in spooled
            )

        await until(stored, "everything that was on the disk")

    async def _all_there(self, house: Installation, burst: Burst) -> None:
        async def there() -> bool:
            threads = await house.threads()
            return all(
                len([each for each in of(threads, user) if each.kind == "contact"]) == len(said)
                for user, said in burst.acknowledged.items()
            )

        await until(there, "everything that was acknowledged")


async def bring(house: Installation, user: str, index: int) -> None:
    """Say one question until the platform need not say it again."""
    line = Line(user=user, text=QUESTIONS[index], id=f"{user}{index:02}")

    async def brought() -> bool:
        return await house.platform.bring(line)

    await until(brought, "a message that is taken")
