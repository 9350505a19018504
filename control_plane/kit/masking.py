"""Masks what identifies people in text that is kept for other reasons, such as logs.

Mainland phone numbers (138****1234), ID-card numbers (18 places, with their check digit) and
bank-card numbers (15 to 19 digits that satisfy Luhn's check). The last four places stay.
"""

import re
from typing import Any

_ID_CARD = re.compile(r"(?<!\d)\d{17}[\dXx](?![\dXx])", re.ASCII)
# No card begins with 0, 1, 7 or 8, but times in milliseconds and microseconds begin with 1.
_CARD = re.compile(
    r"(?<!\d)(?:[2-69]\d{14,18}|[2-69]\d{3}(?:[ -]\d{4}){3}(?:[ -]?\d{1,3})?)(?!\d)", re.ASCII
)
_PHONE = re.compile(r"(?<!\d)((?:\+?86[ -]?)?1[3-9]\d[ -]?)\d{4}([ -]?\d{4})(?!\d)", re.ASCII)

_WEIGHTS = tuple(2**place % 11 for place in range(17, 0, -1))
_CHECKS = "10X98765432"


def text(given: str) -> str:
    """The text with every such number masked; masking twice changes nothing more."""
    given = _ID_CARD.sub(_id_card, given)
    given = _CARD.sub(_card, given)
    return _PHONE.sub(r"\1****\2", given)


def mask(value: Any) -> Any:
    """The same for all that is written as JSON; what JSON does not know is taken by its `repr`."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        masked = text(str(value))
        return value if masked == str(value) else masked
    if isinstance(value, dict):
        return {text(str(name)): mask(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask(item) for item in value]
    return text(repr(value))


def is_id_card(number: str) -> bool:
    """Whether the 18th place of an ID-card number fits the others (GB 11643)."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number[:17], strict=True))
    return _CHECKS[total % 11] == number[17].upper()


def is_card(digits: str) -> bool:
    """Luhn's check."""
    total = sum(map(int, digits[::-2]))
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def _id_card(found: re.Match[str]) -> str:
    number = found[0]
    return f"{number[:3]}{'*' * 11}{number[-4:]}" if is_id_card(number) else number


def _card(found: re.Match[str]) -> str:
    number = found[0]
    if not is_card(re.sub(r"\D", "", number)):
        return number
    return re.sub(r"\d", "*", number[:-4]) + number[-4:]
