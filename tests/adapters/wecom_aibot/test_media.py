import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.simulators.wecom_aibot_media import seal
from adapters.wecom_aibot.media import Unreadable, Unsealing

KEY = base64.b64encode(bytes(range(32))).decode()


def opened(sealed: bytes, *, key: str = KEY, piece: int = 1000) -> bytes:
    unsealing = Unsealing(key)
    pieces = [sealed[at : at + piece] for at in range(0, len(sealed), piece)]
    return b"".join(map(unsealing.feed, pieces)) + unsealing.end()


class TestUnsealing:
    @given(st.binary(max_size=300), st.integers(1, 400))
    def test_comes_out_as_it_went_in_however_it_is_cut(self, content, piece):
        assert opened(seal(content, KEY), piece=piece) == content

    @pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64])
    def test_at_the_edges_of_the_padding(self, size):
        content = os.urandom(size)
        assert opened(seal(content, KEY)) == content

    def test_a_key_may_lack_its_padding(self):
        assert opened(seal(b"abc", KEY), key=KEY.rstrip("=")) == b"abc"

    @pytest.mark.parametrize("key", ["", "AESKEY", "=", "A" * 44 + "é", KEY[:-4]])
    def test_a_key_that_is_none(self, key):
        with pytest.raises(Unreadable):
            Unsealing(key)

    def test_what_is_cut_short_is_not_taken_for_the_whole(self):
        sealed = seal(b"a" * 100, KEY)
        for wrong in (b"", sealed[:-1], sealed[:-32], sealed + b"x"):
            with pytest.raises(Unreadable):
                opened(wrong)

    def test_another_key_opens_nothing(self):
        other = base64.b64encode(bytes(32)).decode()
        with pytest.raises(Unreadable):
            opened(seal(b"a" * 100, KEY), key=other)
