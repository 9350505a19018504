"""What WeCom took and tells later that it showed to nobody: seen by people, and sent again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.simulators.platform import Line
from adapters.simulators.wecom_kf import WeComKf
from control_plane.kit.ids import new_id
from tests.channels.installation import QUESTIONS, Installation, answer_to, installed, until
from tests.conftest import Ground


@pytest.fixture
async def house(ground: Ground, tmp_path: Path) -> AsyncIterator[Installation]:
    database = f"test_{new_id().hex[-12:]}"
    await ground.create(database)
    async with installed(ground, database, tmp_path, "wecom_kf") as house:
        yield house
    await ground.drop(database)


async def delivery(house: Installation, state: str) -> dict[str, Any]:
    """The one there is, once it stands so."""

    async def look() -> dict[str, Any]:
        items = (await house.owner.get("/deliveries")).json()["items"]
        return items[0] if [each["state"] for each in items] == [state] else {}

    found: dict[str, Any] = await until(look, f"a delivery that is {state}")
    return found


class TestLateFailure:
    async def test_makes_the_delivery_failed_and_a_person_may_send_it_again(
        self, house: Installation
    ) -> None:
        platform = house.platform
        assert isinstance(platform, WeComKf)
        await platform.bring(Line(user="wm1", text=QUESTIONS[0]))
        sent = await delivery(house, "sent")
        [first] = platform.seen

        platform.event("msg_send_fail", "wm1", fail_msgid=first.id, fail_type=10)
        assert await platform.ring()

        failed = await delivery(house, "failed")
        assert (failed["id"], failed["error_class"]) == (sent["id"], "recipient_refuses")
        shown = (await house.owner.get(f"/deliveries/{sent['id']}")).json()
        [part] = shown["log"][-1]["parts"]
        assert part["detail"] == "the customer refuses messages"

        assert (await house.owner.post(f"/deliveries/{sent['id']}/resend")).status_code == 200
        await delivery(house, "sent")
        # The platform takes a second message of one id for the first.
        assert [each.text for each in platform.shown("wm1")] == [answer_to(QUESTIONS[0])] * 2
        assert len({each.id for each in platform.seen}) == 2
