"""Hints between processes over Redis: where a transaction pooler forbids LISTEN, or many listen.

Pub/sub keeps nothing: who was away when a hint was sent looks at everything once it is back.
"""

import asyncio
import json

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from control_plane.bus.hints import SharedBus
from control_plane.kit.metrics import LOOP_SUCCESS

CHANNEL = "botyard.hints"
# Seconds for a connection, and for an answer to what was sent.
_ANSWER_WITHIN_S = 5.0
# Seconds of silence after which the server is asked whether it is still there.
_PING_AFTER_S = 10.0


class RedisBus(SharedBus):
    """Hints over Redis pub/sub, on two connections: one hears, one sends."""

    lost = (RedisError, OSError, TimeoutError)

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def _connected(self) -> None:
        # Connecting again is the bus's own work: it must know when hints may have been lost.
        redis: Redis = Redis.from_url(
            self._url,
            socket_connect_timeout=_ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with redis.pubsub() as subscription, asyncio.TaskGroup() as group:
                await subscription.subscribe(CHANNEL)
                group.create_task(self._hear(subscription))
                group.create_task(self._send(redis))
        except* self.lost as errors:
            raise ConnectionError("lost") from errors
        finally:
            await redis.aclose()

    async def _hear(self, subscription: PubSub) -> None:
        silent = False
        while True:
            message = await subscription.get_message(timeout=_PING_AFTER_S)
            if message is None and silent:
                raise ConnectionError("the server fell silent")
            silent = message is None
            if message is None:
                await subscription.ping()
            elif message["type"] == "subscribe":
                self.wake_all()
            elif message["type"] == "message":
                self._heard(message["data"])

    async def _send(self, redis: Redis) -> None:
        while True:
            topics = await self._gathered()
            payload = json.dumps([self._origin, *sorted(topics)])
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await redis.publish(CHANNEL, payload)
            LOOP_SUCCESS.labels(self.name).set_to_current_time()
