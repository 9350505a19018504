"""Changing the password, forgotten or not, and ending one's sign-ins."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import bcrypt
import httpx2
import pytest

from control_plane.access import passwords
from control_plane.access.account import MOST_RESETS, RESET_LIFE
from control_plane.access.lockout import FREE_FAILURES
from control_plane.access.permissions import Role
from control_plane.kit.ids import fingerprint, new_id

PASSWORD = "correct horse battery staple"
NEW = "another horse, another staple"
MINUTE = timedelta(minutes=1)
RESET = "SELECT sha256, tenant_id FROM credentials WHERE kind = 'reset' ORDER BY id"

pytestmark = pytest.mark.usefixtures("computed")


def heard(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def token_in(answer: httpx2.Response) -> str:
    assert answer.status_code == 201
    return answer.json()["url"].partition("#")[2]


async def change(person, old: str = PASSWORD, new: str = NEW) -> httpx2.Response:
    return await person.post("/auth/password", {"old": old, "new": new})


async def ask(browser, email: str) -> httpx2.Response:
    return await browser.post("/reset/request", {"email": email})


async def reset(browser, token: str, new: str = NEW) -> httpx2.Response:
    return await browser.post("/reset", {"token": token, "new": new})


async def link_for(person, member_id: UUID | None, **more) -> httpx2.Response:
    return await person.post(f"/members/{member_id}/reset-link", **more)


async def statuses(browser, email: str) -> tuple[int, int]:
    """Of signing in with the old and with the new password."""
    old, new = await browser.login(email, PASSWORD), await browser.login(email, NEW)
    return old.status_code, new.status_code


class TestRehash:
    async def test_a_hash_of_another_cost_is_made_anew_at_the_next_sign_in(
        self, browser, people, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = await people.owner()
        kept = "SELECT password_hash FROM identities WHERE id = $1"
        before = await superuser.fetchval(kept, owner.identity_id)
        await browser.login(owner.email, PASSWORD)
        assert await superuser.fetchval(kept, owner.identity_id) == before
        monkeypatch.setattr(passwords, "COST", 5)

        await browser.login(owner.email, "not the password")
        assert await superuser.fetchval(kept, owner.identity_id) == before
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

        after = await superuser.fetchval(kept, owner.identity_id)
        assert (before[:7], after[:7]) == ("$2b$04$", "$2b$05$")
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200


class TestChangePassword:
    async def test_the_new_one_counts_from_then_on(self, browser, people) -> None:
        owner = await people.owner()

        assert (await change(owner)).status_code == 204
        assert await statuses(browser, owner.email) == (401, 200)

    async def test_ends_all_other_sign_ins(self, browser, people) -> None:
        owner = await people.owner()
        other = (await browser.login(owner.email, PASSWORD)).json()["access_token"]
        await change(owner)

        assert not await browser.is_signed_in(other)
        assert await browser.is_signed_in(owner.token)

    async def test_needs_the_present_one(self, browser, people) -> None:
        owner = await people.owner()

        assert heard(await change(owner, old="not the password")) == (403, "wrong_password")
        assert await statuses(browser, owner.email) == (200, 401)

    async def test_guessing_the_present_one_locks(self, people) -> None:
        owner = await people.owner()
        for _ in range(FREE_FAILURES):
            await change(owner, old="not the password")

        assert heard(await change(owner)) == (429, "sign_in_locked")

    async def test_a_short_one_is_refused(self, people) -> None:
        owner = await people.owner()

        assert heard(await change(owner, new="short")) == (422, "invalid_request")

    async def test_needs_somebody_who_is_signed_in(self, browser) -> None:
        answer = await browser.post("/password", {"old": PASSWORD, "new": NEW})

        assert heard(answer) == (401, "not_signed_in")

    async def test_a_sign_in_with_the_old_one_under_way_fails(
        self, browser, people, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = await people.owner()
        matches, compared, go_on = passwords.matches, asyncio.Event(), asyncio.Event()

        async def slow(password: str, password_hash: str | None) -> bool:
            right = await matches(password, password_hash)
            compared.set()
            await go_on.wait()
            return right

        monkeypatch.setattr(passwords, "matches", slow)
        late = asyncio.create_task(browser.login(owner.email, PASSWORD))
        await compared.wait()
        monkeypatch.setattr(passwords, "matches", matches)
        await change(owner)
        go_on.set()

        assert heard(await late) == (401, "wrong_credentials")

    async def test_is_written_in_the_audit_without_either(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        await change(owner)

        rows = await superuser.fetch("SELECT audit, action FROM audit")
        assert rows[-1]["action"] == "password.change"
        assert not any(word in str(row) for row in rows for word in (PASSWORD, NEW, "$2b$"))


class TestResetByMail:
    async def test_the_link_in_the_mail_changes_the_password(
        self, browser, people, mailbox
    ) -> None:
        owner = await people.owner()

        assert (await ask(browser, owner.email.upper())).status_code == 202
        [mail] = mailbox.mails
        assert mail["to"] == owner.email
        assert f"http://botyard.test/app/reset#{mailbox.token()}" in mail["text"]
        assert (await reset(browser, mailbox.token())).status_code == 204
        assert await statuses(browser, owner.email) == (401, 200)

    async def test_an_address_without_account_gets_the_same_answer_and_no_mail(
        self, browser, people, mailbox
    ) -> None:
        owner = await people.owner()
        known, unknown = await ask(browser, owner.email), await ask(browser, "x@example.com")

        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        # Each request has its own id, and spends of the same address's bucket.
        own = {"x-request-id": "", "ratelimit": ""}
        assert dict(known.headers) | own == dict(unknown.headers) | own
        assert len(mailbox.mails) == 1

    async def test_works_once(self, browser, people, mailbox) -> None:
        owner = await people.owner()
        await ask(browser, owner.email)
        answers = await asyncio.gather(*(reset(browser, mailbox.token()) for _ in range(3)))

        assert sorted(answer.status_code for answer in answers) == [204, 410, 410]

    async def test_works_for_an_hour(self, browser, people, mailbox, clock) -> None:
        owner = await people.owner()
        await ask(browser, owner.email)
        clock.advance(RESET_LIFE - MINUTE)
        first = mailbox.token()
        await ask(browser, owner.email)
        clock.advance(MINUTE)

        assert heard(await reset(browser, first)) == (410, "reset_over")
        assert (await reset(browser, mailbox.token())).status_code == 204

    async def test_a_changed_password_makes_all_links_worthless(
        self, browser, people, mailbox
    ) -> None:
        owner = await people.owner()
        await ask(browser, owner.email)
        first = mailbox.token()
        await ask(browser, owner.email)
        await reset(browser, mailbox.token())

        assert heard(await reset(browser, first)) == (410, "reset_over")

    async def test_ends_all_sign_ins_and_the_lock(self, browser, people, mailbox) -> None:
        owner = await people.owner()
        for _ in range(FREE_FAILURES + 1):
            await browser.login(owner.email, "not the password")
        await ask(browser, owner.email)
        await reset(browser, mailbox.token())

        assert not await browser.is_signed_in(owner.token)
        assert (await browser.login(owner.email, NEW)).status_code == 200

    async def test_fills_no_mailbox(self, browser, people, mailbox, clock) -> None:
        owner = await people.owner()
        for _ in range(MOST_RESETS + 3):
            assert (await ask(browser, owner.email)).status_code == 202
        assert len(mailbox.mails) == MOST_RESETS

        clock.advance(RESET_LIFE)
        await ask(browser, owner.email)
        assert len(mailbox.mails) == MOST_RESETS + 1

    async def test_only_a_fingerprint_is_kept(
        self, browser, people, mailbox, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        await ask(browser, owner.email)

        [row] = await superuser.fetch(RESET)
        assert tuple(row) == (fingerprint(mailbox.token()), None)

    async def test_a_token_of_another_kind_is_none(self, browser, people) -> None:
        owner = await people.owner()
        signed_in = await browser.login(owner.email, PASSWORD)

        for token in (signed_in.cookies["botyard_refresh"], "x" * 43, ""):
            assert heard(await reset(browser, token)) == (410, "reset_over")

    async def test_rubbish_costs_no_hashing(self, browser, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[bytes] = []
        hashpw = bcrypt.hashpw
        monkeypatch.setattr(
            passwords.bcrypt, "hashpw", lambda *given: made.append(given[0]) or hashpw(*given)
        )

        await reset(browser, "x" * 43)

        assert made == []

    async def test_is_written_in_every_tenant_of_the_person(
        self, browser, people, mailbox, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        await ask(browser, owner.email)
        await reset(browser, mailbox.token())

        rows = await superuser.fetch(
            "SELECT tenant_id, target_id FROM audit WHERE action = 'password.reset'"
        )
        assert [tuple(row) for row in rows] == [(owner.tenant_id, owner.identity_id)]


class TestResetLink:
    async def test_lets_a_member_choose_a_password(self, browser, people, clock) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)

        answer = await link_for(owner, member.member_id)

        assert answer.json()["url"].startswith("http://botyard.test/app/reset#")
        assert answer.json()["expires_at"] == "2026-01-01T01:00:00Z"
        assert (await reset(browser, token_in(answer))).status_code == 204
        assert await statuses(browser, member.email) == (401, 200)
        assert heard(await reset(browser, token_in(answer))) == (410, "reset_over")

    @pytest.mark.parametrize(
        ("role", "status"),
        [(Role.OWNER, 201), (Role.ADMIN, 201), (Role.MEMBER, 403), (Role.VIEWER, 403)],
    )
    async def test_is_for_owners_and_admins_to_make(self, people, role, status) -> None:
        owner = await people.owner()
        person = owner if role == Role.OWNER else await people.member(owner.tenant_id, role)
        target = await people.member(owner.tenant_id, Role.ADMIN)

        assert (await link_for(person, target.member_id)).status_code == status

    async def test_for_an_owner_only_an_owner_makes_one(self, people) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)

        assert heard(await link_for(admin, owner.member_id)) == (403, "owner_only")

    async def test_somebody_elses_member_does_not_exist(self, people) -> None:
        owner, other = await people.owner(), await people.owner()

        for member_id in (other.member_id, new_id()):
            assert heard(await link_for(owner, member_id)) == (404, "member_not_found")

    async def test_for_whom_the_account_is_not_this_tenants_alone_there_is_none(
        self, browser, people, superuser: asyncpg.Connection
    ) -> None:
        owner, other = await people.owner(), await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        token = token_in(await link_for(owner, member.member_id))
        await superuser.execute(
            "INSERT INTO members (id, tenant_id, identity_id, role, created_at)"
            " VALUES ($1, $2, $3, 'owner', now())",
            new_id(),
            other.tenant_id,
            member.identity_id,
        )

        assert heard(await link_for(owner, member.member_id)) == (409, "reset_by_mail_only")
        assert heard(await reset(browser, token)) == (410, "reset_over")

    async def test_for_an_operator_there_is_none(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        await superuser.execute(
            "UPDATE identities SET operator = true WHERE id = $1", member.identity_id
        )

        assert heard(await link_for(owner, member.member_id)) == (409, "reset_by_mail_only")

    async def test_the_audit_says_who_made_it_and_nothing_keeps_it_in_the_open(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        headers = {"idempotency-key": "one-link"}
        token = token_in(await link_for(owner, member.member_id, headers=headers))

        # The repeat of a lost answer gets it once more; what is kept for that is sealed.
        assert token_in(await link_for(owner, member.member_id, headers=headers)) == token
        [body] = await superuser.fetchrow("SELECT body FROM idempotency")
        assert token.encode() not in body
        [row] = await superuser.fetch(RESET)
        assert tuple(row) == (fingerprint(token), owner.tenant_id)
        entry = await superuser.fetchrow("SELECT * FROM audit WHERE action = 'member.reset_link'")
        assert (entry["actor_id"], entry["target_id"]) == (owner.identity_id, member.member_id)
        assert token not in str(entry)


class TestSessions:
    async def test_lists_ones_sign_ins_the_last_used_first(self, browser, people, clock) -> None:
        owner = await people.owner()
        await people.owner()
        clock.advance(MINUTE)
        answer = await browser.post(
            "/login", {"email": owner.email, "password": PASSWORD}, **{"user-agent": "F" * 300}
        )
        clock.advance(MINUTE)
        await browser.refresh(answer.cookies["botyard_refresh"], **{"user-agent": "Firefox"})

        items = (await owner.get("/auth/sessions")).json()["items"]

        assert [{key: item[key] for key in item if key != "id"} for item in items] == [
            {
                "created_at": "2026-01-01T00:01:00Z",
                "used_at": "2026-01-01T00:02:00Z",
                "label": "Firefox",
                "address": "127.0.0.1",
                "current": False,
            },
            {
                "created_at": "2026-01-01T00:00:00Z",
                "used_at": "2026-01-01T00:00:00Z",
                "label": None,
                "address": None,
                "current": True,
            },
        ]
        assert UUID(items[1]["id"]) == owner.family_id

    async def test_a_long_label_is_cut(self, browser, people) -> None:
        owner = await people.owner()
        await browser.post(
            "/login", {"email": owner.email, "password": PASSWORD}, **{"user-agent": "F" * 300}
        )

        labels = [item["label"] for item in (await owner.get("/auth/sessions")).json()["items"]]
        assert "F" * 200 in labels

    async def test_one_can_be_ended(self, browser, people) -> None:
        owner = await people.owner()
        other = (await browser.login(owner.email, PASSWORD)).json()["access_token"]
        items = (await owner.get("/auth/sessions")).json()["items"]
        [other_id] = [item["id"] for item in items if not item["current"]]

        assert (await owner.delete(f"/auth/sessions/{other_id}")).status_code == 204
        assert not await browser.is_signed_in(other)
        assert [
            item["current"] for item in (await owner.get("/auth/sessions")).json()["items"]
        ] == [True]
        again = await owner.delete(f"/auth/sessions/{other_id}")
        assert heard(again) == (404, "session_not_found")

    async def test_somebody_elses_cannot(self, browser, people) -> None:
        owner, other = await people.owner(), await people.owner()

        answer = await owner.delete(f"/auth/sessions/{other.family_id}")

        assert heard(answer) == (404, "session_not_found")
        assert await browser.is_signed_in(other.token)

    async def test_all_others_can_be_ended_at_once(self, browser, people) -> None:
        owner, stranger = await people.owner(), await people.owner()
        others = [
            (await browser.login(owner.email, PASSWORD)).json()["access_token"] for _ in range(3)
        ]

        assert (await owner.delete("/auth/sessions")).status_code == 204

        assert not any([await browser.is_signed_in(token) for token in others])
        assert await browser.is_signed_in(owner.token)
        assert await browser.is_signed_in(stranger.token)
