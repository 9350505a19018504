"""Every change that somebody is permitted to make is in the audit, or on a closed list of those
that need not be. A new route belongs to one of both."""

from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from control_plane.access.permissions import Role
from tests.conftest import People, Person
from tests.control_plane.conversations.scene import dead_callback, make_bot
from tests.test_layout import routes

NOT_AUDITED = {
    ("POST", "/conversations/{conversation_id}/messages"): (
        "the message itself is kept, with who wrote it and when"
    ),
    ("PUT", "/conversations/{conversation_id}/seen"): "a mark of one's own",
    ("POST", "/conversations/{conversation_id}/notes"): (
        "the note itself is kept, with who wrote it and when; changing and removing it is audited"
    ),
    ("POST", "/contacts/{contact_id}/notes"): "as in a conversation",
    ("POST", "/canned-replies/{reply_id}/use"): "counted; what is sent with it is kept",
    ("POST", "/conversations/{conversation_id}/summary"): (
        "nothing changes; a model is asked, and for whom and at what price is kept"
    ),
    ("POST", "/conversations/{conversation_id}/suggestions"): "the same",
    ("PUT", "/routing/me"): "what somebody says of themselves is shown to all, with since when",
    ("POST", "/media"): "the room is kept, with who asked for it; it goes unless a message uses it",
    ("POST", "/webhooks/{webhook_id}/test"): "nothing changes; a receiver is called once",
    ("POST", "/sign-on/check"): "nothing changes; a provider is asked once",
    ("POST", "/providers/{provider_id}/check"): "nothing changes; a provider is asked once",
    ("POST", "/channels/{channel_id}/check"): "nothing changes; a platform is asked once",
}

ANSWERS = {"items": [{"question": "When?", "answer": "At nine."}]}
PROVIDER = {"name": "M", "kind": "openai", "base_url": "https://localhost:9/v1"}
CANNED = {"code": "a", "title": "A", "text": "A"}
ROUTING = {"enabled": True, "skills": [{"key": "tea", "name": "Tea"}]}
NOT_SENT = {"outcome": "not_sent"}
DOCUMENT = {"document": {"persona": {"name": "Anna"}}, "note": "first"}
WEBHOOK = {"url": "https://example.com/hook", "events": ["turn.ended"]}
SIGN_ON = {
    "issuer": "https://login.example.com",
    "client_id": "botyard",
    "client_secret": "a secret of the provider",
    "domains": ["example.com"],
}
QUOTAS = {
    "instances": 1,
    "channels": 1,
    "members": 1,
    "messages_month": 1,
    "storage_bytes": 1,
    "pod_cpu": 100,
    "pod_memory": 2**27,
}


DEAD_MESSAGES = """
WITH made AS (
    INSERT INTO webhook_messages (id, tenant_id, webhook_id, epoch, seq, type, body, state,
        due_at, ended_at, created_at)
    SELECT gen_random_uuid(), $1, $2, 1, n, 'turn.ended', '{}', 'dead', now(), now(), now()
    FROM generate_series(1, 2) AS n RETURNING id
)
SELECT id FROM made LIMIT 1
"""
"""Two that were given up; the id of one."""


@dataclass(frozen=True)
class Step:
    """A call that changes something, and what the audit then says somebody did.

    `keeps` names the id of what was made, for the paths of later steps.
    """

    action: str
    who: str
    method: str
    path: str
    body: Any = None
    keeps: str = ""


SCRIPT = (
    # The platform decides about a company and what it may have.
    Step("plan.create", "operator", "POST", "/plans", {"name": "tiny", "quotas": QUOTAS}),
    Step("plan.change", "operator", "PATCH", "/plans/{name}", {"retention_days": 30}),
    Step("release.create", "operator", "POST", "/releases", {"image": "agent:2"}),
    Step("rollout.start", "operator", "POST", "/rollouts", {"release": 1}, keeps="rollout_id"),
    Step("rollout.pause", "operator", "POST", "/rollouts/{rollout_id}/pause"),
    Step("rollout.resume", "operator", "POST", "/rollouts/{rollout_id}/resume"),
    Step("rollout.abort", "operator", "POST", "/rollouts/{rollout_id}/abort"),
    Step(
        "tenant.rollout_group",
        "operator",
        "PUT",
        "/tenants/{tenant_id}/rollout-group",
        {"group": "canary"},
    ),
    Step("tenant.ask", "operator", "POST", "/tenants/{tenant_id}/ask", {"question": "Who?"}),
    Step("tenant.inform", "owner", "POST", "/tenants/{tenant_id}/information", {"text": "Us."}),
    Step("tenant.reject", "operator", "POST", "/tenants/{tenant_id}/reject", {"reason": "No."}),
    Step("tenant.approve", "operator", "POST", "/tenants/{tenant_id}/approve"),
    Step("tenant.suspend", "operator", "POST", "/tenants/{tenant_id}/suspend"),
    Step("tenant.resume", "operator", "POST", "/tenants/{tenant_id}/resume"),
    Step("tenant.change_plan", "operator", "PATCH", "/tenants/{tenant_id}", {"plan": "standard"}),
    Step(
        "support.grant",
        "operator",
        "POST",
        "/tenants/{tenant_id}/support",
        {"reason": "bug", "minutes": 5},
        keeps="grant_id",
    ),
    Step("support.end", "owner", "DELETE", "/support-access/{grant_id}"),
    # The tenant's people.
    Step("tenant.change_settings", "owner", "PATCH", "/tenant", {"mask_numbers": True}),
    Step("role.create", "owner", "POST", "/roles", {"name": "Desk", "permissions": []}, "role_id"),
    Step("role.change", "owner", "PATCH", "/roles/{role_id}", {"name": "Front desk"}),
    Step("role.delete", "owner", "DELETE", "/roles/{role_id}"),
    Step(
        "invitation.create",
        "owner",
        "POST",
        "/invitations",
        {"email": "new@example.com", "role": "member"},
        keeps="invitation_id",
    ),
    Step("invitation.withdraw", "owner", "DELETE", "/invitations/{invitation_id}"),
    Step("routing.change_settings", "owner", "PUT", "/routing/settings", ROUTING),
    Step("routing.change_member", "owner", "PUT", "/routing/members/{member_id}", {"capacity": 3}),
    Step(
        "conversation.transfer",
        "owner",
        "POST",
        "/conversations/{conversation_id}/transfer",
        {"skill": "tea", "note": "Oolong"},
    ),
    Step("member.change", "owner", "PATCH", "/members/{member_id}", {"role": "viewer"}),
    Step("member.reset_link", "owner", "POST", "/members/{member_id}/reset-link"),
    Step("member.remove", "owner", "DELETE", "/members/{member_id}"),
    Step("member.remove", "leaver", "DELETE", "/members/me"),
    Step(
        "api_key.create",
        "owner",
        "POST",
        "/api-keys",
        {"name": "k", "scopes": ["tenant.read"]},
        keeps="key_id",
    ),
    Step("api_key.revoke", "owner", "DELETE", "/api-keys/{key_id}"),
    Step("sign_on.change", "owner", "PUT", "/sign-on", SIGN_ON),
    Step("sign_on.remove", "owner", "DELETE", "/sign-on"),
    Step("webhook.change", "owner", "PATCH", "/webhooks/{webhook_id}", {"description": "Shop"}),
    Step("webhook.rotate", "owner", "POST", "/webhooks/{webhook_id}/secret"),
    Step(
        "webhook.replay",
        "owner",
        "POST",
        "/webhooks/{webhook_id}/messages/{message_id}/replay",
    ),
    Step(
        "webhook.replay",
        "owner",
        "POST",
        "/webhooks/{webhook_id}/replay",
        {"since": "2020-01-01T00:00:00Z"},
    ),
    Step("webhook.delete", "owner", "DELETE", "/webhooks/{webhook_id}"),
    Step("webhook.create", "owner", "POST", "/webhooks", WEBHOOK),
    # What its bot is and knows.
    Step("answers.replace", "owner", "PUT", "/answers", ANSWERS),
    Step("provider.create", "owner", "POST", "/providers", PROVIDER, keeps="provider_id"),
    Step("provider.change", "owner", "PATCH", "/providers/{provider_id}", {"name": "Other"}),
    Step("provider.delete", "owner", "DELETE", "/providers/{provider_id}"),
    Step(
        "revision.create",
        "owner",
        "POST",
        "/instances/{instance_id}/revisions",
        DOCUMENT,
        keeps="revision_id",
    ),
    Step("revision.publish", "owner", "POST", "/revisions/{revision_id}/publish"),
    Step("revision.publish", "owner", "POST", "/instances/{instance_id}/rollback", {"number": 0}),
    Step("instance.stop", "owner", "POST", "/instances/{instance_id}/stop"),
    Step("instance.start", "owner", "POST", "/instances/{instance_id}/start"),
    Step("instance.hibernate", "owner", "POST", "/instances/{instance_id}/hibernate"),
    Step("instance.wake", "owner", "POST", "/instances/{instance_id}/start"),
    Step("instance.restart", "owner", "POST", "/instances/{instance_id}/restart"),
    Step("instance.restart", "operator", "POST", "/fleet/{instance_id}/restart"),
    Step("instance.reconcile", "operator", "POST", "/fleet/{instance_id}/reconcile"),
    Step("instance.suspend", "operator", "POST", "/fleet/{instance_id}/suspend", {"reason": "No."}),
    Step("instance.resume", "operator", "POST", "/fleet/{instance_id}/resume"),
    Step("instance.rotate_secrets", "owner", "POST", "/instances/{instance_id}/secrets/rotate"),
    # What its people write for each other.
    Step("tag.create", "owner", "POST", "/tags", {"name": "VIP"}, "tag_id"),
    Step("tag.change", "owner", "PATCH", "/tags/{tag_id}", {"colour": "red"}),
    Step("conversation.tag", "owner", "PUT", "/conversations/{conversation_id}/tags/{tag_id}"),
    Step("conversation.untag", "owner", "DELETE", "/conversations/{conversation_id}/tags/{tag_id}"),
    Step("contact.tag", "owner", "PUT", "/contacts/{contact_id}/tags/{tag_id}"),
    Step("contact.untag", "owner", "DELETE", "/contacts/{contact_id}/tags/{tag_id}"),
    Step("tag.delete", "owner", "DELETE", "/tags/{tag_id}"),
    Step("contact.change", "owner", "PATCH", "/contacts/{contact_id}", {"remark": "Lin"}),
    Step("note.change", "owner", "PATCH", "/notes/{note_id}", {"text": "two"}),
    Step("note.delete", "owner", "DELETE", "/notes/{note_id}"),
    Step("canned_reply.create", "owner", "POST", "/canned-replies", CANNED, "reply_id"),
    Step("canned_reply.change", "owner", "PATCH", "/canned-replies/{reply_id}", {"title": "x"}),
    Step("canned_reply.delete", "owner", "DELETE", "/canned-replies/{reply_id}"),
    Step("canned_reply.create", "owner", "POST", "/canned-replies/own", CANNED, "own_reply_id"),
    Step("canned_reply.change", "owner", "PATCH", "/canned-replies/own/{own_reply_id}", {}),
    Step("canned_reply.delete", "owner", "DELETE", "/canned-replies/own/{own_reply_id}"),
    # What people do with what customers said.
    Step("conversation.take-over", "owner", "POST", "/conversations/{conversation_id}/take-over"),
    Step("conversation.hand-back", "owner", "POST", "/conversations/{conversation_id}/hand-back"),
    Step("conversation.close", "owner", "POST", "/conversations/{conversation_id}/close"),
    Step("delivery.settle", "owner", "POST", "/deliveries/{delivery_id}/settle", NOT_SENT),
    Step("delivery.resend", "owner", "POST", "/deliveries/{delivery_id}/resend"),
    Step("delivery.resend", "owner", "POST", "/deliveries/resend", {"state": "expired"}),
    Step("dead_letter.replay", "owner", "POST", "/dead-letters/{letter_id}/replay"),
    Step("dead_letter.replay", "owner", "POST", "/dead-letters/replay", {"limit": 1}),
    Step(
        "dead_letter.replay",
        "operator",
        "POST",
        "/tenants/{tenant_id}/dead-letters/replay",
        {"limit": 1},
    ),
    Step("blacklist.add", "owner", "POST", "/blacklist", {"platform_id": "lin"}, "entry_id"),
    Step("blacklist.remove", "owner", "DELETE", "/blacklist/{entry_id}"),
    Step("blacklist.bulk", "owner", "POST", "/blacklist/bulk", {"add": [{"platform_id": "lin"}]}),
    Step("contact.erase", "owner", "POST", "/contacts/{contact_id}/erase"),
    # And its end.
    Step(
        "channel.create",
        "owner",
        "POST",
        "/instances/{instance_id}/channels",
        {"kind": "webchat", "name": "Two"},
        keeps="channel_id",
    ),
    Step("channel.change", "owner", "PATCH", "/channels/{channel_id}", {"name": "Three"}),
    Step("channel.delete", "owner", "DELETE", "/channels/{channel_id}"),
    Step("instance.create", "owner", "POST", "/instances", {"name": "Other"}, "instance_id"),
    Step("instance.delete", "owner", "DELETE", "/instances/{instance_id}"),
    Step("tenant.delete", "owner", "DELETE", "/tenants/{tenant_id}"),
)


@pytest.fixture
async def scene(parts, people: People, superuser) -> tuple[dict[str, Person], dict[str, Any]]:
    """People, and the ids of what they have."""
    owner = await people.owner()
    bot = await make_bot(parts, owner)
    conversation = await bot.hears("hello")
    await bot.says(conversation, "lost", "late")
    lost = await superuser.fetchval(
        "UPDATE deliveries SET state = 'unconfirmed' WHERE number = 2 RETURNING id"
    )
    await superuser.execute("UPDATE deliveries SET state = 'expired' WHERE number = 3")
    contact = (await owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]
    member = await people.member(owner.tenant_id, Role.MEMBER)
    persons = {
        "owner": owner,
        "leaver": await people.member(owner.tenant_id, Role.VIEWER),
        "operator": await people.operator(),
    }
    named = {
        "name": "tiny",
        "tenant_id": owner.tenant_id,
        "member_id": member.member_id,
        "instance_id": bot.instance_id,
        "conversation_id": conversation,
        "contact_id": contact,
        "delivery_id": lost,
        "letter_id": await dead_callback(superuser, bot),
        "other_letter_id": await dead_callback(superuser, bot),
        "third_letter_id": await dead_callback(superuser, bot),
    }
    note = await owner.post(f"/contacts/{contact}/notes", {"text": "one"})
    named["note_id"] = note.json()["id"]
    named["webhook_id"] = (await owner.post("/webhooks", WEBHOOK)).json()["id"]
    named["message_id"] = await superuser.fetchval(
        DEAD_MESSAGES, owner.tenant_id, named["webhook_id"]
    )
    await superuser.execute("UPDATE tenants SET state = 'pending'")
    return persons, named


class TestEveryChange:
    def test_is_in_the_script_or_on_the_list_of_what_need_not_be_audited(self, app) -> None:
        changes = {
            (method, path.removeprefix("/api/v1"))
            for method, path, asked in routes(app.app)
            if method != "GET" and any(asked)
        }
        shown = {(step.method, step.path) for step in SCRIPT} - {("DELETE", "/members/me")}

        assert shown & NOT_AUDITED.keys() == set()
        assert shown | NOT_AUDITED.keys() == changes

    async def test_is_written_down_with_who_did_it(
        self, scene, superuser: asyncpg.Connection
    ) -> None:
        persons, named = scene
        for step in SCRIPT:
            person = persons[step.who]
            before = await superuser.fetchval("SELECT max(id::text) FROM audit")

            answer = await person.call(step.method, step.path.format(**named), json=step.body)

            assert answer.is_success, f"{step.path}: {answer.text}"
            entries = await superuser.fetch(
                "SELECT action, actor_id FROM audit WHERE id::text > $1", before
            )
            assert (step.action, person.identity_id) in map(tuple, entries), step.path
            if step.keeps:
                named[step.keeps] = answer.json()["id"]
