"""Which sites may show a channel's chat: those on its list, and we ourselves."""

import pytest
from websockets.asyncio.client import connect

from tests.conftest import PUBLIC_URL
from tests.control_plane.conversations.scene import PATIENCE_S, Bot, make_bot
from tests.control_plane.webchat.conftest import Tab

SHOP, EVIL = "https://shop.example", "https://evil.example"


class TestOrigin:
    @pytest.mark.parametrize(
        ("allowed", "origin", "served"),
        [
            ([], EVIL, True),
            ([SHOP], SHOP, True),
            ([SHOP], PUBLIC_URL, True),
            ([SHOP], None, True),
            ([SHOP], EVIL, False),
            ([SHOP], f"{SHOP}.evil.example", False),
            ([SHOP], "http://shop.example", False),
            ([SHOP], "null", False),
        ],
    )
    async def test_of_a_socket_is_ours_or_on_the_channels_list(
        self, parts, people, port: int, allowed: list[str], origin: str | None, served: bool
    ) -> None:
        bot = await make_bot(parts, await people.owner(), allowed_origins=allowed)
        url = f"ws://127.0.0.1:{port}/webchat/{bot.token}/ws"
        async with connect(url, proxy=None, origin=origin, open_timeout=PATIENCE_S) as socket:
            tab = Tab(socket)
            if served:
                assert (await tab.resume())["type"] == "welcome"
            else:
                assert await tab.end() == 4403

    async def test_of_the_page_our_own_address_is_always_one(
        self, parts, people, port: int
    ) -> None:
        bot = await make_bot(parts, await people.owner(), allowed_origins=[SHOP])
        url = f"ws://127.0.0.1:{port}/webchat/{bot.token}/ws"
        async with connect(url, proxy=None, origin=f"http://127.0.0.1:{port}") as socket:
            assert (await Tab(socket).resume())["type"] == "welcome"

    @pytest.mark.parametrize(
        ("allowed", "ancestors"),
        [([], "*"), ([SHOP, "http://localhost:3000"], f"'self' {SHOP} http://localhost:3000")],
    )
    async def test_may_frame_the_page_if_it_is_on_the_list(
        self, app, parts, people, client, allowed: list[str], ancestors: str
    ) -> None:
        page = app.app.state.web_pages / "webchat" / "index.html"
        page.parent.mkdir()
        page.write_text("<!doctype html>")
        bot = await make_bot(parts, await people.owner(), allowed_origins=allowed)

        answer = await client.get(f"/webchat/{bot.token}")

        policy = answer.headers["content-security-policy"]
        assert policy.endswith(f"frame-ancestors {ancestors}")

    @pytest.mark.parametrize(
        "origin",
        [
            "shop.example",
            "https://shop.example/",
            "https://*.example",
            "https://a.example; script-src *",
            "https://a.example https://b.example",
            "https://user@a.example",
            "javascript:alert(1)",
            "*",
            "null",
            "",
        ],
    )
    async def test_that_is_none_is_refused(self, bot: Bot, origin: str) -> None:
        answer = await bot.owner.patch(
            f"/channels/{bot.channel_id}", {"settings": {"allowed_origins": [origin]}}
        )

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
