"""The question-and-answer list: written over REST, found in PostgreSQL."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.access.permissions import Role
from control_plane.turns import answers
from control_plane.turns.answers import Match
from control_plane.turns.schemas import MAX_ANSWERS
from tests.control_plane.conversations.scene import Bot
from tests.control_plane.turns.conftest import ANSWERS
from tests.control_plane.turns.test_matching import dice


async def put(person, *pairs: tuple[str, str]):
    items = [{"question": question, "answer": answer} for question, answer in pairs]
    return await person.call("PUT", "/answers", json={"items": items})


async def best(bot: Bot, question: str) -> Match | None:
    async with bot.session() as session:
        return await answers.best(session, question)


class TestBest:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        asked=st.one_of(
            st.sampled_from(list(ANSWERS)),
            st.text("你们几点开关门在哪里怎么退货？吗 ", max_size=12),
            st.text(max_size=20),
            st.sampled_from(["do you delivr", "Do you deliever?", "deliver"]),
        )
    )
    async def test_is_what_the_pure_computation_says(self, bot: Bot, asked: str) -> None:
        found = await best(bot, asked)

        scores = {question: dice(question, asked) for question in ANSWERS}
        top = max(scores.values())
        if top == 0:
            assert found is None
        else:
            assert found is not None
            assert found.score == pytest.approx(top)
            # The first of the list among equals.
            first = next(question for question, score in scores.items() if score == top)
            assert (found.question, found.answer) == (first, ANSWERS[first])

    async def test_is_never_another_tenants(self, bot: Bot, people) -> None:
        stranger = await people.owner("Other House")
        await put(stranger, ("秘密是什么？", "不告诉你"))

        assert await best(bot, "秘密是什么？") is None
        assert (await bot.owner.get("/answers")).json()["items"][0]["question"] == "你们几点开门？"

    async def test_of_nothing_to_compare_is_nothing(self, bot: Bot) -> None:
        assert await best(bot, "？！") is None


class TestReplace:
    async def test_puts_the_new_list_in_the_place_of_the_old_at_once(self, bot: Bot) -> None:
        answer = await put(bot.owner, (" 有停车场吗？ ", " 有。 "), ("Parking?", "Yes."))

        expected = [
            {"position": 1, "question": "有停车场吗？", "answer": "有。"},
            {"position": 2, "question": "Parking?", "answer": "Yes."},
        ]
        assert answer.json() == {"items": expected, "next": None}
        assert (await bot.owner.get("/answers")).json()["items"] == expected
        assert await best(bot, "你们在哪里") is None
        assert await best(bot, "有停车场吗") == Match(
            question="有停车场吗？", answer="有。", score=1.0
        )

    async def test_may_leave_nothing(self, bot: Bot) -> None:
        assert (await put(bot.owner)).json()["items"] == []
        assert await best(bot, "你们在哪里") is None

    async def test_lists_the_path_of_every_wrong_entry_and_keeps_the_old_list(
        self, bot: Bot
    ) -> None:
        answer = await put(bot.owner, ("？？", "a"), ("开门", "b"), ("…", "c"))

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_answers")
        paths = [error["path"] for error in answer.json()["errors"]]
        assert paths == ["/items/0/question", "/items/2/question"]
        assert len((await bot.owner.get("/answers")).json()["items"]) == len(ANSWERS)

    @pytest.mark.parametrize(
        ("pair", "field"),
        [
            (("", "a"), "question"),
            (("开门" * 101, "a"), "question"),
            (("开\0门", "a"), "question"),
            (("开门", "  "), "answer"),
            (("开门", "长" * 4_001), "answer"),
            (("开门", "a\0b"), "answer"),
        ],
        ids=[
            "no question",
            "long question",
            "nul in question",
            "no answer",
            "long answer",
            "nul in answer",
        ],
    )
    async def test_refuses_what_cannot_be_kept(self, bot: Bot, pair, field: str) -> None:
        answer = await put(bot.owner, ("关门", "b"), pair)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert [error["path"] for error in answer.json()["errors"]] == [f"/body/items/1/{field}"]

    async def test_takes_as_many_as_it_says_and_no_more(self, bot: Bot) -> None:
        full = [(f"第{number}个问题", "是") for number in range(MAX_ANSWERS)]

        assert (await put(bot.owner, *full, ("还有", "是"))).status_code == 422
        assert (await put(bot.owner, *full)).status_code == 200
        page = (await bot.owner.get("/answers", params={"limit": 200})).json()
        assert [item["position"] for item in page["items"]] == list(range(1, 201))
        following = await bot.owner.get("/answers", params={"cursor": page["next"], "limit": 1})
        assert following.json()["items"][0]["position"] == 201

    @pytest.mark.parametrize(
        ("role", "status"), [(Role.VIEWER, 403), (Role.MEMBER, 403), (Role.ADMIN, 200)]
    )
    async def test_is_for_those_who_run_the_bot(
        self, bot: Bot, people, role: Role, status: int
    ) -> None:
        person = await people.member(bot.tenant_id, role)

        assert (await put(person, ("开门", "a"))).status_code == status
        assert (await person.get("/answers")).status_code == 200
