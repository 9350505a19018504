"""Somebody is not heard, and heard again, through real processes and sockets only."""


class TestBlacklist:
    async def test_keeps_a_visitor_away_until_the_entry_is_gone(self, up, visitor, until):
        admin = await up.sign_in()
        await visitor.say("1", "你好")
        await visitor.sees(lambda page: len(page.answers) == 1)
        [conversation] = (await admin.get("/conversations")).json()["items"]
        assert conversation["contact"]["blocked"] is False
        body = {"contact_id": conversation["contact"]["id"], "reason": "spam"}
        entry = (await admin.post("/blacklist", json=body)).json()
        said = 1

        async def kept_away() -> bool:
            nonlocal said
            said += 1
            await visitor.say(str(said), f"spam {said}")
            await visitor.sees(lambda page: not page.unacknowledged)
            return bool((await admin.get(f"/blacklist/{entry['id']}")).json()["hits"])

        await until(kept_away, "a message was kept away")
        thread = f"/conversations/{conversation['id']}/messages?limit=200"
        heard = len((await admin.get(thread)).json()["items"])
        await visitor.say("more", "still spam")
        await visitor.sees(lambda page: not page.unacknowledged)
        assert len((await admin.get(thread)).json()["items"]) == heard
        shown = (await admin.get(f"/conversations/{conversation['id']}")).json()
        assert shown["contact"]["blocked"] is True

        assert (await admin.delete(f"/blacklist/{entry['id']}")).status_code == 204

        async def heard_again() -> bool:
            nonlocal said
            said += 1
            await visitor.say(str(said), f"again {said}")
            await visitor.sees(lambda page: not page.unacknowledged)
            return len((await admin.get(thread)).json()["items"]) > heard

        await until(heard_again, "the visitor is heard again")
        told = (await admin.get(thread)).json()["items"]
        assert not any("still spam" in str(message["segments"]) for message in told)
