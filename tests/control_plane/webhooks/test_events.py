"""What leaves the house, and under which name."""

from control_plane.access.permissions import ROLE_PERMISSIONS, Role
from control_plane.webhooks.events import EVENTS, public
from tests.control_plane.conversations.scene import make_bot

NAME = "Lin"


class TestPublic:
    def test_says_who_wrote_but_neither_name_nor_more_than_is_promised(self) -> None:
        entry = {
            "conversation_id": "c",
            "message_id": "m",
            "number": 3,
            "sender": {"kind": "contact", "name": NAME},
            "owner": "bot",
            "preview": "a secret",
        }

        name, data = public("message.created", entry)

        assert (name, data) == (
            "message.received",
            {"conversation_id": "c", "message_id": "m", "number": 3},
        )

    def test_answers_say_by_which_kind_of_author(self) -> None:
        entry = {"message_id": "m", "sender": {"kind": "human", "name": NAME}}

        name, data = public("message.created", entry)

        assert (name, data["author"]) == ("message.answered", "human")
        assert NAME not in str(data)

    def test_what_is_for_dashboards_alone_stays(self) -> None:
        assert public("webhook.changed", {"webhook_id": "w"}) is None
        assert public("api_key.created", {"id": "k", "name": "shop"}) is None

    def test_every_one_can_be_subscribed_to_by_somebody(self) -> None:
        needed = {event.needs for event in EVENTS.values()}

        assert needed <= ROLE_PERMISSIONS[Role.ADMIN]

    def test_nobody_subscribes_to_the_test(self) -> None:
        assert "webhook.test" not in EVENTS


class TestRealEntries:
    async def test_hold_what_is_promised(self, parts, make_hook, teller, receiver) -> None:
        """The names in `EVENTS` are those that the stream really uses."""
        hook = await make_hook(*EVENTS)
        bot = await make_bot(parts, hook.owner)
        conversation = await bot.hears("Hello")
        await hook.owner.post(f"/conversations/{conversation}/take-over", {})
        await hook.owner.post(
            f"/conversations/{conversation}/messages",
            {"segments": [{"type": "text", "text": "Good day"}]},
        )
        await teller.all()

        told = {message["type"]: message["body"] for message in await hook.messages()}

        assert told.keys() >= {
            "instance.changed",
            "channel.changed",
            "message.received",
            "message.answered",
            "conversation.owner_changed",
        }
        assert "null" not in told["message.received"] + told["message.answered"]
        assert not any("Hello" in body or NAME in body for body in told.values())
        assert len(receiver.requests) == len(await hook.messages())
