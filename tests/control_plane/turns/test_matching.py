"""How alike two questions are: typos above the bar, other questions below it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.turns.matching import MAX_LENGTH, grams
from instance_agent.document import Rules

THRESHOLD = Rules().answer_threshold


def dice(first: str, second: str) -> float:
    """As the database computes it."""
    one, other = set(grams(first)), set(grams(second))
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 0.0


class TestAlike:
    @pytest.mark.parametrize(
        ("question", "asked"),
        [
            pytest.param("你们几点开门？", "你们几点开们", id="homophone"),
            pytest.param("你们几点开门？", "你们己点开门", id="look-alike of one sound"),
            pytest.param("怎么退货？", "怎么推货", id="another tone"),
            pytest.param("你们在哪里？", "你门在那里", id="two homophones"),
            pytest.param("可以送货上门吗？", "可以送货上们嘛", id="homophone and particle"),
            pytest.param("你们几点开门？", "几点开门", id="missing word"),
            pytest.param("你们几点开门？", "你们一般几点开门", id="extra word"),
            pytest.param("你们几点开门？", "你们几点点开门", id="doubled character"),
            pytest.param("你们在哪里？", "你们店在哪里", id="extra character"),
            pytest.param("你们在哪里？", "你们在哪儿", id="another ending"),
            pytest.param("可以送货上门吗？", "可以送货吗", id="shorter"),
            pytest.param("你们几点开门？", "你好，请问几点开门？谢谢！", id="polite"),
            pytest.param("你们几点开门？", "你们几点开门呢", id="particle"),
            pytest.param("你们几点开门？", "  你们 几点、开门  ", id="spaces and marks"),
            pytest.param("WiFi密码是多少？", "ｗｉｆｉ密码是多少", id="full width"),
            pytest.param("What time do you open?", "what time do u open", id="short for"),
            pytest.param("What time do you open?", "What tme do you open", id="missing letter"),
            pytest.param("What time do you open?", "Hi, what time do you open please", id="please"),
            pytest.param("Do you deliver?", "do you deliever", id="extra letter"),
            pytest.param("Do you deliver?", "DO YOU DELIVER", id="capitals"),
        ],
    )
    def test_a_slip_keeps_the_question(self, question: str, asked: str) -> None:
        assert dice(question, asked) >= THRESHOLD

    @pytest.mark.parametrize(
        ("question", "asked"),
        [
            ("你们几点开门？", "你们几点关门"),
            ("怎么退货？", "怎么送货"),
            ("怎么退货？", "怎么换货"),
            ("你们在哪里？", "你们几点开门"),
            ("你们几点开门？", "今天天气怎么样"),
            ("可以送货上门吗？", "可以开发票吗"),
            ("Do you deliver?", "Do you refund?"),
            ("Do you deliver?", "你们送货吗"),
            ("你们几点开门？", "谢谢"),
            ("你们几点开门？", "？？"),
        ],
    )
    def test_another_question_is_another(self, question: str, asked: str) -> None:
        assert dice(question, asked) < THRESHOLD

    def test_an_own_question_is_nearer_than_a_similar_one(self) -> None:
        asked = "你们几点关门啊"

        assert dice("你们几点关门？", asked) == 1.0 > dice("你们几点开门？", asked)


class TestGrams:
    @pytest.mark.parametrize(
        ("question", "found"),
        [
            ("开门", ["kai men"]),
            ("开", ["kai"]),
            ("a1", ["a 1"]),
            ("开门开门", ["kai men", "men kai"]),
            ("你好", ["ni hao"]),
            ("吗", ["ma"]),
            ("？！ …", []),
            ("", []),
            ("👋", []),
        ],
    )
    def test_are_pairs_of_neighbouring_sounds(self, question: str, found: list[str]) -> None:
        assert grams(question) == found

    def test_look_at_the_beginning_of_what_is_too_long(self) -> None:
        assert grams("开" * MAX_LENGTH + "关门") == ["kai kai"]

    @given(st.text(max_size=300))
    def test_of_any_text_are_a_sorted_set_and_always_the_same(self, text: str) -> None:
        found = grams(text)

        assert found == sorted(set(found)) == grams(text)
        assert "" not in found
        assert all("\0" not in gram for gram in found)

    @given(st.text(max_size=60), st.text(max_size=60))
    def test_any_two_texts_are_alike_between_nothing_and_fully(self, one: str, two: str) -> None:
        assert 0.0 <= dice(one, two) == dice(two, one) <= 1.0
        assert dice(one, one) == (1.0 if grams(one) else 0.0)
