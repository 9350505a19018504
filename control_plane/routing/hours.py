"""Working hours: intervals of each weekday in a time zone, and days that are otherwise. Pure."""

from datetime import date, datetime, time
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, StringConstraints

from control_plane.access.schemas import Body
from control_plane.kit.errors import Invalid

# Intervals of a day: morning, noon, afternoon, evening, and two to spare.
MAX_INTERVALS = 6
# Days that are otherwise: two years of holidays, and the days worked instead.
MAX_DAYS = 400

Time = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Interval(Body):
    """From `begins` until just before `ends`, of one day; `24:00` is its end."""

    begins: Time
    ends: Time


Intervals = Annotated[list[Interval], Field(max_length=MAX_INTERVALS)]


class Week(Body):
    """A weekday that is left out is free."""

    monday: Intervals = Field(default_factory=list)
    tuesday: Intervals = Field(default_factory=list)
    wednesday: Intervals = Field(default_factory=list)
    thursday: Intervals = Field(default_factory=list)
    friday: Intervals = Field(default_factory=list)
    saturday: Intervals = Field(default_factory=list)
    sunday: Intervals = Field(default_factory=list)


class Day(Body):
    """A day that is otherwise: a holiday without intervals, or a Saturday that is worked."""

    date: date
    intervals: Intervals = Field(default_factory=list)


class Hours(Body):
    """`days` count instead of the week."""

    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    week: Week = Week()
    days: list[Day] = Field(default_factory=list, max_length=MAX_DAYS)


def is_open(hours: Hours | None, now: datetime) -> bool:
    """Whether it is within the hours; without any it always is."""
    if hours is None:
        return True
    there = now.astimezone(ZoneInfo(hours.time_zone))
    at = _minute(there.time())
    return any(_minutes(one.begins) <= at < _minutes(one.ends) for one in _of(hours, there.date()))


def check(hours: Hours | None, path: str) -> None:
    """Raises Invalid for hours that no clock has."""
    if hours is None:
        return
    if hours.time_zone not in _zones():
        raise _wrong("unknown_time_zone", f"{path}/time_zone", "There is no such time zone.")
    days = [(f"week/{name}", getattr(hours.week, name)) for name in _WEEK]
    days += [(f"days/{n}/intervals", day.intervals) for n, day in enumerate(hours.days)]
    for name, intervals in days:
        _check_day(intervals, f"{path}/{name}")
    if len({day.date for day in hours.days}) < len(hours.days):
        raise _wrong("day_twice", f"{path}/days", "A day is named twice.")


def _check_day(intervals: list[Interval], path: str) -> None:
    end = 0
    for n, one in enumerate(intervals):
        begins, ends = _minutes(one.begins), _minutes(one.ends)
        if ends <= begins:
            raise _wrong("interval_backwards", f"{path}/{n}", "It ends before it begins.")
        if begins < end:
            raise _wrong(
                "intervals_overlap", f"{path}/{n}", "It begins before the one before ends."
            )
        end = ends


def _of(hours: Hours, day: date) -> list[Interval]:
    for other in hours.days:
        if other.date == day:
            return other.intervals
    found: list[Interval] = getattr(hours.week, _WEEK[day.weekday()])
    return found


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def _minute(at: time) -> int:
    return at.hour * 60 + at.minute


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _wrong(code: str, path: str, message: str) -> Invalid:
    return Invalid(code, message, errors=[{"path": path, "code": code, "message": message}])
