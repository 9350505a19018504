"""Masking: what identifies people goes, what does not stays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.kit import masking

PHONE = st.from_regex(re.compile(r"1[3-9][0-9]{9}"), fullmatch=True)
BORDER = st.sampled_from(["", " ", "：", "电话", "tel", '"', "-", "a", "\n"])


def with_check(first: str) -> str:
    """The ID-card number that begins with these 17 digits."""
    [fits] = [first + last for last in "0123456789X" if masking.is_id_card(first + last)]
    return fits


def luhn(first: str) -> str:
    """The card number that begins with these digits."""
    [fits] = [first + last for last in "0123456789" if masking.is_card(first + last)]
    return fits


ID_CARD = st.from_regex(re.compile(r"[1-8][0-9]{16}"), fullmatch=True).map(with_check)
CARD = st.from_regex(re.compile(r"[2-69][0-9]{14,17}"), fullmatch=True).map(luhn)


class TestText:
    @pytest.mark.parametrize(
        ("given", "masked"),
        [
            ("13812341234", "138****1234"),
            ("call 138-1234-5678 now", "call 138-****-5678 now"),
            ("+86 13812345678", "+86 138****5678"),
            ("8613812345678", "86138****5678"),
            ("11010519491231002X", "110***********002X"),
            ("11010519491231002x", "110***********002x"),
            ("4111111111111111", "************1111"),
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("6222021234567890128", "***************0128"),
        ],
    )
    def test_masks_all_but_the_last_four(self, given: str, masked: str) -> None:
        assert masking.text(given) == masked

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "110105194912310021",  # the check digit is wrong
            "4111111111111112",  # so is this
            "1767225600000",  # a time in milliseconds
            "1767225600000000",  # and in microseconds
            "12812345678",  # no such prefix
            "138123412345",  # too long
            "0198c0de-7a3b-7c1d-8e2f-0123456789ab",
            "2026-01-01T00:00:00.000000Z",
            "127.0.0.1:8080",
        ],
    )
    def test_leaves_what_is_no_such_number(self, given: str) -> None:
        assert masking.text(given) == given

    @given(before=BORDER, number=st.one_of(PHONE, ID_CARD, CARD), after=BORDER)
    def test_no_number_stays_and_its_end_does(self, before: str, number: str, after: str) -> None:
        masked = masking.text(before + number + after)

        assert number not in masked
        assert masked.startswith(before)
        assert masked.endswith(number[-4:] + after)
        assert len(masked) == len(before + number + after)

    @given(st.text(st.sampled_from("0123456789Xx -+a"), max_size=60))
    def test_masking_twice_is_masking_once(self, given: str) -> None:
        assert masking.text(masking.text(given)) == masking.text(given)

    @given(st.text(max_size=60))
    def test_changes_nothing_but_digits(self, given: str) -> None:
        masked = masking.text(given)

        assert len(masked) == len(given)
        pairs = zip(given, masked, strict=True)
        assert all(one == other or (other == "*" and one.isdigit()) for one, other in pairs)


class TestMask:
    def test_goes_through_all_that_a_line_has(self) -> None:
        line = {
            "event": "call 13812341234",
            "data": {
                "13812341234": [13812341234, 5, 1.5, True, None],
                "pair": ("4111111111111111",),
            },
        }

        assert masking.mask(line) == {
            "event": "call 138****1234",
            "data": {
                "138****1234": ["138****1234", 5, 1.5, True, None],
                "pair": ["************1111"],
            },
        }

    def test_what_json_does_not_know_is_masked_as_it_would_be_written(self) -> None:
        assert masking.mask({"error": ValueError("no 13812341234")}) == {
            "error": "ValueError('no 138****1234')"
        }
