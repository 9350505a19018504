"""Media of WeCom's AI bots, with Tencent's SDK on the other side."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.simulators.wecom_seal import Seal
from adapters.wecom_aibot import media
from tests.peers.place import PeerError, Peers

KEYS = st.binary(min_size=32, max_size=32).map(base64.b64encode).map(bytes.decode)
FEW = settings(max_examples=25, deadline=None)


def opened(sealed: bytes, key: str, piece: int) -> bytes:
    unsealing = media.Unsealing(key)
    found = [unsealing.feed(sealed[at : at + piece]) for at in range(0, len(sealed), piece)]
    return b"".join(found) + unsealing.end()


class TestAMedium:
    @FEW
    @given(key=KEYS, content=st.binary(max_size=400), piece=st.integers(1, 100), bare=st.booleans())
    def test_is_opened_by_both(self, peers: Peers, key, content, piece, bare):
        # The envelope's cipher and padding, without the envelope: what it closes is a medium.
        sealed = base64.b64decode(Seal("", key.rstrip("="), "").close(content))
        given = key.rstrip("=") if bare else key
        data = base64.b64encode(sealed).decode()
        theirs = base64.b64decode(peers.ask("aibot_open", data=data, key=given))
        assert opened(sealed, given, piece) == theirs
        assert theirs.endswith(content)

    @FEW
    @given(key=KEYS, other=KEYS, content=st.binary(max_size=100))
    def test_with_another_key_is_refused_by_both_or_by_neither(
        self, peers: Peers, key, other, content
    ):
        sealed = base64.b64decode(Seal("", key.rstrip("="), "").close(content))
        data = base64.b64encode(sealed).decode()
        try:
            ours = opened(sealed, other, 64)
        except media.Unreadable:
            with pytest.raises(PeerError):
                peers.ask("aibot_open", data=data, key=other)
        else:
            assert ours == base64.b64decode(peers.ask("aibot_open", data=data, key=other))
