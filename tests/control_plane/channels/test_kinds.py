"""The kinds of channel as the API tells them."""

import re

import pytest

from adapters import registry
from adapters.kind import Kind
from control_plane.channels import kinds

HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def afresh():
    """The kinds are told once for a process: here before and after."""
    kinds.installed.cache_clear()
    yield
    kinds.installed.cache_clear()


class TestList:
    async def test_has_every_installed_kind_with_its_form(self, people) -> None:
        viewer = await people.owner()

        items = (await viewer.get("/channel-kinds")).json()["items"]

        assert [item["name"] for item in items] == registry.kinds()
        webchat = next(item for item in items if item["name"] == "webchat")
        assert (webchat["title"], webchat["title_zh"]) == ("Web chat", "网页客服")
        assert webchat["callback"] is False
        assert webchat["secrets"] == webchat["generated"] == ["secret"]
        assert webchat["settings"]["properties"]["greeting"]["maxLength"] == 500

    async def test_what_the_server_keeps_by_itself_is_marked(self, people) -> None:
        items = (await (await people.owner()).get("/channel-kinds")).json()["items"]

        wecom = next(item for item in items if item["name"] == "wecom")
        assert wecom["settings"]["properties"]["previous_token"]["previous_of"] == "token"
        assert wecom["generated"] == []


class TestInstalled:
    def test_one_that_cannot_be_loaded_hides_none_of_the_others(
        self, afresh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = registry.kind

        def kind(name: str) -> Kind:
            if name == "qq":
                raise ImportError("its distribution is broken")
            return real(name)

        monkeypatch.setattr(registry, "kind", kind)

        names = [each.name for each in kinds.installed()]
        assert names == [name for name in registry.kinds() if name != "qq"]


class TestTold:
    def test_a_kind_with_one_title_has_it_in_both_languages(self) -> None:
        postbox = Kind(
            name="postbox",
            title="Postbox",
            package="adapters.webchat",
            transports=("callback",),
            conversations=("direct",),
            receives=("text",),
            sends=("text",),
            resend_safe_s=0.0,
            callback=True,
            calls_us=True,
        )

        found = kinds.told(postbox)

        assert (found.title, found.title_zh) == ("Postbox", "Postbox")

    @pytest.mark.parametrize("name", registry.OURS)
    def test_ours_say_in_both_languages_what_they_ask_for(self, name: str) -> None:
        found = kinds.told(registry.kind(name))
        asked = {
            setting: said
            for setting, said in found.settings["properties"].items()
            if setting not in found.generated and "previous_of" not in said
        }

        assert HAN.search(found.title_zh)
        assert not HAN.search(found.title)
        assert asked
        for setting, said in asked.items():
            assert said["description"], setting
            assert HAN.search(said["description_zh"]), setting
