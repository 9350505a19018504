"""What is made of a channel's settings when they change."""

from adapters import registry
from control_plane.channels.settings import secret_names, with_previous

WECOM = registry.kind("wecom")


class TestWithPrevious:
    def test_a_key_that_is_replaced_is_kept_for_what_is_still_sealed_with_it(self):
        old = {"token": "old", "encoding_aes_key": "k", "greeting": "hi"}
        assert with_previous(WECOM, old, {"token": "new", "greeting": "yo"}) == {
            "token": "new",
            "greeting": "yo",
            "previous_token": "old",
        }

    def test_nothing_is_kept_where_nothing_changes_or_somebody_says_so(self):
        old = {"token": "old"}
        for given in ({"token": "old"}, {"token": "new", "previous_token": None}, {}):
            assert with_previous(WECOM, old, given) == given

    def test_it_is_a_secret_too(self):
        assert {"previous_token", "previous_encoding_aes_key"} <= secret_names(WECOM)
