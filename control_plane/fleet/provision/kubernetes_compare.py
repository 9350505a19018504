"""Whether a live object is as it was wished, whatever the server added or wrote otherwise."""

import re
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(m|u|n|k|Ki|[MGTPE]i?|[eE][+-]?[0-9]+)?")
_UNITS = {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}
_UNITS |= {"": Decimal(1), "m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
# Where the values below are quantities: elsewhere "1" and "1000m" are two texts.
_OF_QUANTITIES = frozenset(
    {"limits", "requests", "hard", "default", "defaultRequest", "max", "min"}
)


def covers(wished: Any, live: Any, *, within: str = "") -> bool:
    """Whether all that is wished is so; what is wished empty or false may be left out."""
    if wished == live:
        return True
    if isinstance(wished, dict):
        if not wished or not isinstance(live, dict):
            return not wished and not live
        return all(
            covers(value, live.get(key), within=within if _holds(within, value) else key)
            for key, value in wished.items()
        )
    if isinstance(wished, list):
        found = live or []
        return (
            isinstance(found, list)
            and len(found) == len(wished)
            and all(covers(one, other) for one, other in zip(wished, found, strict=True))
        )
    if within in _OF_QUANTITIES or within == "sizeLimit":
        number = quantity(wished)
        return bool(wished == live) or (number is not None and number == quantity(live))
    return bool(wished == live) if wished or live else True


def quantity(text: object) -> Decimal | None:
    """The number that a quantity means; None for what is none."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    number, unit = match.groups()
    try:
        if unit and unit[0] in "eE" and len(unit) > 1 and unit[1] != "i":
            return Decimal(f"{number}{unit}")
        return Decimal(number) * _UNITS[unit or ""]
    except ArithmeticError:
        return None


def _holds(within: str, value: Any) -> bool:
    """Whether we are among the quantities of `within` now."""
    return within in _OF_QUANTITIES and not isinstance(value, (dict, list))
