"""Working hours, in any zone."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from control_plane.kit.errors import Invalid
from control_plane.routing import hours
from control_plane.routing.hours import Hours

SHANGHAI = {
    "time_zone": "Asia/Shanghai",
    "week": {
        "monday": [{"begins": "09:00", "ends": "12:00"}, {"begins": "13:30", "ends": "24:00"}],
    },
    "days": [
        {"date": "2026-01-12"},
        {"date": "2026-01-17", "intervals": [{"begins": "10:00", "ends": "11:00"}]},
    ],
}


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A time of January 2026 in Shanghai, in UTC."""
    return datetime.fromisoformat(f"2026-01-{day:02}T{hour:02}:{minute:02}:00+08:00").astimezone(
        UTC
    )


class TestOpen:
    @pytest.mark.parametrize(
        ("moment", "there"),
        [
            (at(5, 8, 59), False),
            (at(5, 9), True),
            (at(5, 11, 59), True),
            (at(5, 12), False),
            (at(5, 13, 30), True),
            (at(5, 23, 59), True),
            (at(6, 0), False),
            (at(12, 10), False),
            (at(17, 10), True),
            (at(17, 11), False),
        ],
        ids=str,
    )
    def test_follows_the_intervals_of_the_day_in_the_tenants_own_zone(
        self, moment: datetime, there: bool
    ) -> None:
        assert hours.is_open(Hours.model_validate(SHANGHAI), moment) is there

    def test_is_always_without_hours(self) -> None:
        assert hours.is_open(None, at(4, 3))

    def test_knows_of_summer_time(self) -> None:
        berlin = Hours.model_validate(
            {
                "time_zone": "Europe/Berlin",
                "week": {"friday": [{"begins": "09:00", "ends": "10:00"}]},
            }
        )

        assert hours.is_open(berlin, datetime(2026, 1, 2, 8, 30, tzinfo=UTC))
        assert hours.is_open(berlin, datetime(2026, 7, 3, 7, 30, tzinfo=UTC))
        assert not hours.is_open(berlin, datetime(2026, 7, 3, 8, 30, tzinfo=UTC))


class TestCheck:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"time_zone": "Asia/Nowhere"}, "unknown_time_zone"),
            ({"time_zone": "../etc/passwd"}, "unknown_time_zone"),
            (
                {"week": {"sunday": [{"begins": "10:00", "ends": "10:00"}]}},
                "interval_backwards",
            ),
            (
                {
                    "week": {
                        "sunday": [
                            {"begins": "10:00", "ends": "12:00"},
                            {"begins": "11:59", "ends": "13:00"},
                        ]
                    }
                },
                "intervals_overlap",
            ),
            ({"days": [{"date": "2026-01-12"}, {"date": "2026-01-12"}]}, "day_twice"),
        ],
    )
    def test_refuses_what_no_clock_has(self, change: dict[str, Any], code: str) -> None:
        with pytest.raises(Invalid) as refused:
            hours.check(Hours.model_validate(SHANGHAI | change), "/hours")

        assert refused.value.code == code

    def test_takes_days_that_are_otherwise(self) -> None:
        given = Hours.model_validate(SHANGHAI)
        hours.check(given, "/hours")

        assert given.days[0].date == date(2026, 1, 12)
