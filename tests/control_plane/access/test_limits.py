"""Token buckets, in this process and in a real Redis."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import ValidationError
from redis.asyncio import Redis
from structlog.testing import capture_logs

from control_plane.access import limits
from control_plane.access.limits import Charge, Limiter, LocalLimiter, Rate, Rates, Verdict
from control_plane.access.limits_redis import AWAY_S, RedisLimiter
from control_plane.settings import Settings

THREE_AN_HOUR = Rate(3, 3600)
USER = Charge("user", "lin", THREE_AN_HOUR)


class Time:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


async def allowed(limiter: Limiter, times: int, *charges: Charge) -> list[bool]:
    return [(await limiter.take(charges or [USER])).allowed for _ in range(times)]


def fallbacks() -> float:
    return REGISTRY.get_sample_value("botyard_limiter_fallbacks_total") or 0.0


class TestRate:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [("60/minute", Rate(60, 60)), ("1/second", Rate(1, 1)), ("9/hour", Rate(9, 3600))],
    )
    def test_is_read_from_words(self, text: str, rate: Rate) -> None:
        assert Rate.parse(text) == rate

    @pytest.mark.parametrize("text", ["", "0/minute", "60", "60/day", "-1/minute", "1.5/second"])
    def test_anything_else_is_an_error(self, text: str) -> None:
        with pytest.raises(ValueError, match="60/minute"):
            Rate.parse(text)

    def test_is_a_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTYARD_RATES__USER", "5/second")

        assert Settings().rates == Rates(user=Rate(5, 1))

    def test_a_misspelt_setting_stops_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTYARD_RATES__USERS", "5/second")

        with pytest.raises(ValidationError):
            Settings()

    def test_every_one_has_a_reason(self) -> None:
        assert all(field.description for field in Rates.model_fields.values())


class TestLocalLimiter:
    async def test_lets_a_burst_through_and_then_nothing(self, time: Time) -> None:
        assert await allowed(LocalLimiter(time), 5) == [True, True, True, False, False]

    async def test_fills_up_evenly(self, time: Time) -> None:
        limiter = LocalLimiter(time)
        await allowed(limiter, 3)
        time.now += 1199
        assert await allowed(limiter, 1) == [False]
        time.now += 2
        assert await allowed(limiter, 2) == [True, False]

    async def test_never_holds_more_than_one_burst(self, time: Time) -> None:
        limiter = LocalLimiter(time)
        await allowed(limiter, 1)
        time.now += 1_000_000

        assert await allowed(limiter, 4) == [True, True, True, False]

    async def test_counts_everybody_apart(self, time: Time) -> None:
        limiter = LocalLimiter(time)
        await allowed(limiter, 4)

        assert await allowed(limiter, 1, Charge("user", "chen", THREE_AN_HOUR)) == [True]
        assert await allowed(limiter, 1, Charge("tenant", "lin", THREE_AN_HOUR)) == [True]

    async def test_takes_from_every_bucket_or_from_none(self, time: Time) -> None:
        limiter = LocalLimiter(time)
        tenant = Charge("tenant", "tea", Rate(1, 3600))
        assert await allowed(limiter, 3, USER, tenant) == [True, False, False]

        assert await allowed(limiter, 3) == [True, True, False]

    async def test_says_which_bucket_and_how_long(self, time: Time) -> None:
        limiter = LocalLimiter(time)
        tenant = Charge("tenant", "tea", Rate(1, 60))

        assert await limiter.take([USER, tenant]) == Verdict(
            allowed=True, tightest=tenant, left=0, full_in_s=60.0
        )
        assert await limiter.take([USER, tenant]) == Verdict(
            allowed=False, tightest=tenant, left=0, full_in_s=60.0, wait_s=60.0
        )

    async def test_forgets_the_one_charged_longest_ago(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MAX_BUCKETS", 10)
        limiter = LocalLimiter(time)
        for number in range(500):
            await limiter.take([Charge("user", str(number), THREE_AN_HOUR)])

        assert list(limiter._buckets) == [f"user:{number}" for number in range(490, 500)]

    @given(st.lists(st.floats(0, 500), max_size=60), st.integers(1, 20), st.integers(1, 600))
    def test_never_gives_more_than_a_burst_and_what_flowed_in(
        self, pauses: list[float], amount: int, window_s: int
    ) -> None:
        time = Time()
        limiter, charge = LocalLimiter(time), Charge("user", "lin", Rate(amount, window_s))

        async def run() -> int:
            given = 0
            for pause in pauses:
                time.now += pause
                given += (await limiter.take([charge])).allowed
            return given

        flowed = sum(pauses) * amount / window_s
        assert asyncio.run(run()) <= amount + flowed + 1e-6


class TestRedisLimiter:
    async def test_is_one_limit_for_all_processes(self, redis_server) -> None:
        some, more = RedisLimiter(redis_server.url), RedisLimiter(redis_server.url)
        before = fallbacks()
        five = Charge("user", "lin", Rate(5, 3600))
        verdicts = await asyncio.gather(
            *(limiter.take([five]) for limiter in (some, more) for _ in range(15))
        )
        await some.close()
        await more.close()

        assert sum(verdict.allowed for verdict in verdicts) == 5
        assert fallbacks() == before

    async def test_takes_from_every_bucket_or_from_none(self, redis_server) -> None:
        limiter = RedisLimiter(redis_server.url)
        tenant = Charge("tenant", "tea", Rate(1, 3600))
        assert await allowed(limiter, 3, USER, tenant) == [True, False, False]
        assert await allowed(limiter, 3) == [True, True, False]
        refused = await limiter.take([tenant, USER])
        await limiter.close()

        assert refused.tightest == tenant
        assert 3590 < refused.wait_s <= 3600

    async def test_buckets_leave_redis_by_themselves(self, redis_server) -> None:
        limiter = RedisLimiter(redis_server.url)
        await allowed(limiter, 1)
        await limiter.close()
        async with Redis.from_url(redis_server.url) as redis:
            lives = {key: await redis.ttl(key) for key in await redis.keys()}

        assert list(lives) == [b"botyard:rate:user:lin"]
        assert 0 < lives[b"botyard:rate:user:lin"] <= 3600

    async def test_while_redis_is_away_each_process_counts_by_itself(
        self, redis_server, time: Time
    ) -> None:
        limiter = RedisLimiter(redis_server.url, now=time)
        assert await allowed(limiter, 1) == [True]
        redis_server.kill()
        before = fallbacks()

        with capture_logs() as lines:
            assert await allowed(limiter, 5) == [True, True, True, False, False]
            time.now += AWAY_S
            assert await allowed(limiter, 1) == [False]

        assert fallbacks() == before + 6
        assert [line["event"] for line in lines] == ["rate limits are counted per process"]
        redis_server.start()
        time.now += AWAY_S
        assert await allowed(limiter, 4) == [True, True, True, False]
        assert fallbacks() == before + 6
        await limiter.close()
