import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cutting import characters, pieces, utf8_bytes

FAMILY = "👨‍👩‍👧‍👦"


class TestPieces:
    @given(st.text(max_size=400), st.integers(min_value=4, max_value=50))
    def test_together_they_are_the_text_and_each_fits(self, text, limit):
        found = pieces(text, utf8_bytes(limit))
        assert "".join(found) == text
        assert all(0 < len(piece.encode()) <= limit for piece in found)

    @given(st.text(max_size=400), st.integers(min_value=1, max_value=50))
    def test_characters_are_counted_where_the_platform_does(self, text, limit):
        found = pieces(text, characters(limit))
        assert "".join(found) == text
        assert all(0 < len(piece) <= limit for piece in found)

    def test_bytes_never_cut_a_character(self):
        assert pieces("你好吗", utf8_bytes(7)) == ["你好", "吗"]

    def test_a_line_is_the_better_place(self):
        assert pieces("ab\ncd ef gh", characters(9)) == ["ab\n", "cd ef gh"]

    def test_then_a_word(self):
        assert pieces("ab cd efgh", characters(8)) == ["ab cd ", "efgh"]

    @pytest.mark.parametrize("sign", [FAMILY, "e\u0301", "👍🏽", "🇨🇳"])
    def test_what_is_one_sign_stays_whole(self, sign):
        found = pieces("x" * 9 + sign, characters(10))
        assert found == ["x" * 9, sign]

    def test_what_fits_is_left_alone(self):
        assert pieces("", characters(5)) == []
        assert pieces("hello", characters(5)) == ["hello"]
