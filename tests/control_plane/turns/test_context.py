"""What a model is shown."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.turns import context
from control_plane.turns.context import Said
from instance_agent.document import Persona


def said(*texts: str, first: int = 1) -> list[Said]:
    """The contact begins, and they take turns."""
    return [
        Said(number=number, by_contact=(number - first) % 2 == 0, text=text)
        for number, text in enumerate(texts, start=first)
    ]


class TestEstimate:
    def test_counts_wide_characters_one_by_one_and_others_by_four(self) -> None:
        bare = context.estimate("")

        assert context.estimate("几点开门") == bare + 4
        assert context.estimate("opening?") == bare + 2
        assert context.estimate("开门 at 9") == bare + 2 + 2


class TestBudget:
    def test_leaves_out_the_oldest(self) -> None:
        talk = said("一" * 100, "二" * 100, "三" * 100)

        kept = context.within_budget(talk, budget=250)

        assert [item.number for item in kept] == [2, 3]

    def test_cuts_the_newest_rather_than_leave_it_out(self) -> None:
        [kept] = context.within_budget(said("前", "后" * 500), budget=100)

        assert kept.number == 2
        assert context.estimate(kept.text) <= 100

    def test_leaves_out_what_says_nothing(self) -> None:
        assert [item.number for item in context.within_budget(said("a", " ", "b"))] == [1, 3]

    @given(st.lists(st.text(max_size=300), max_size=30), st.integers(50, 2000))
    def test_is_kept(self, texts: list[str], budget: int) -> None:
        kept = context.within_budget(said(*texts), budget=budget)

        assert sum(context.estimate(item.text) for item in kept) <= budget
        numbers = [item.number for item in kept]
        assert numbers == sorted(numbers)


class TestMessages:
    def test_say_who_is_who_in_turns(self) -> None:
        talk = [
            Said(number=1, by_contact=True, text="a"),
            Said(number=2, by_contact=True, text="b"),
            Said(number=3, by_contact=False, text="c"),
            Said(number=4, by_contact=True, text="d"),
        ]

        shown = context.messages(Persona(name="小花", instructions="Be kind."), talk)

        assert [(one.role, one.content) for one in shown] == [
            ("system", "Be kind.\n\n你的名字：小花"),
            ("user", "a\nb"),
            ("assistant", "c"),
            ("user", "d"),
        ]

    @given(st.lists(st.text(max_size=40), max_size=10))
    def test_never_put_what_a_customer_says_into_the_system_part(self, texts: list[str]) -> None:
        shown = context.messages(Persona(), said(*texts))

        assert [one.role for one in shown].count("system") == 1
        assert shown[0] == context.messages(Persona(), [])[0]
