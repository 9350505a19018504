"""Published attacks by way of webhooks, by their names; each fails through the application."""

import dataclasses
from collections.abc import AsyncIterator, Sequence

import pytest

from adapters.outbound import Outbound
from control_plane.webhooks.worker import Webhooks
from tests.control_plane.webhooks.conftest import CHANGED, Hook

METADATA = "169.254.169.254"


class Names:
    """A name server of the attacker's: good while it is looked at, bad afterwards."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = [METADATA]

    def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.addresses


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def strict(app, parts, names) -> AsyncIterator[Outbound]:
    """The door of a platform without exceptions, behind the application too."""
    outbound = Outbound(resolve=names)
    app.app.state.house = dataclasses.replace(parts.house, outbound=outbound)
    yield outbound
    await outbound.close()


async def refused(owner, url: str) -> tuple[int, str]:
    answer = await owner.post("/webhooks", {"url": url, "events": [CHANGED]})
    return answer.status_code, answer.json()["code"]


class TestWebhookToMetadataAddress:
    @pytest.mark.parametrize(
        "host",
        [METADATA, "2852039166", "0xa9fea9fe", f"[::ffff:{METADATA}]", f"[64:ff9b::{METADATA}]"],
    )
    async def test_cannot_be_made(self, strict, people, host: str) -> None:
        url = f"https://{host}/latest/meta-data/iam/security-credentials/"

        assert await refused(await people.owner(), url) == (422, "address_refused")

    async def test_cannot_be_made_of_a_good_one(self, strict, people) -> None:
        owner = await people.owner()
        body = {"url": "https://hooks.example.com", "events": [CHANGED]}
        made = (await owner.post("/webhooks", body)).json()

        answer = await owner.patch(f"/webhooks/{made['id']}", {"url": f"http://{METADATA}/"})

        assert (answer.status_code, answer.json()["code"]) == (422, "address_refused")

    async def test_behind_a_name_is_not_called(self, strict, people, parts, teller) -> None:
        owner = await people.owner()
        body = {"url": "https://rebound.example.com", "events": [CHANGED]}
        made = (await owner.post("/webhooks", body)).json()
        hook = Hook(parts=parts, maker=owner, id=made["id"], secret=made["secret"])
        house = parts.house
        teller.handle = Webhooks(house.database, house.keys, house.clock, strict).follow
        await hook.happens(1)
        await teller.all()

        [message] = await hook.messages()
        tried = (await owner.post(f"/webhooks/{made['id']}/test")).json()
        assert (message["state"], message["last_status"]) == ("pending", None)
        assert message["last_error"] == tried["error"] == "This address is not on the internet."


class TestWebhookIntoOurNetwork:
    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost.:8080/",
            "http://hooks.example.com/",
            "https://10.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://hooks.example.com@10.0.0.1/",
            "file:///etc/passwd",
        ],
    )
    async def test_cannot_be_made(self, strict, people, url: str) -> None:
        assert await refused(await people.owner(), url) == (422, "address_refused")

    @pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "192.168.0.1", METADATA])
    async def test_says_the_same_of_every_machine_in_it(
        self, strict, names, people, address: str
    ) -> None:
        owner = await people.owner()
        body = {"url": "https://probe.example.com:22", "events": [CHANGED]}
        made = (await owner.post("/webhooks", body)).json()
        names.addresses = ["8.8.8.8", address]

        tried = (await owner.post(f"/webhooks/{made['id']}/test")).json()

        assert tried["error"] == "This address is not on the internet."
        assert tried["status"] is None


class TestWebhookRedirectedIntoOurNetwork:
    async def test_goes_nowhere(self, hook, teller, receiver) -> None:
        receiver.default = (302, {"location": f"http://{METADATA}/"})
        await hook.happens(1)
        await teller.all()

        [message] = await hook.messages()
        assert message["last_error"] == ("The receiver answered 302. Redirects are not followed.")
        assert len(receiver.requests) == 1


class TestAnswerOfReceiver:
    async def test_is_shown_to_nobody(self, hook, receiver) -> None:
        receiver.default = (500, {"x-internal": "swordfish", "server": "swordfish"})

        answer = await hook.owner.post(f"/webhooks/{hook.id}/test")

        assert "swordfish" not in answer.text
