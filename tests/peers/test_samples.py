"""The messages of the channels' figures: both sides read them, and read the same words."""

import time

import pytest

from adapters.model import Inbound, Text
from adapters.registry import kind
from benchmarks.channel_own import READ
from benchmarks.channels import SAMPLES, Peer
from tests.peers.place import PeerError, Peers

NOW = 1_755_850_000


@pytest.mark.parametrize("name", sorted(SAMPLES))
class TestASample:
    def test_is_read_here(self, name):
        sample, _ = SAMPLES[name](NOW)
        settings = kind(name).settings().model_validate(sample.settings)
        found = READ[name](settings, sample)
        assert isinstance(found, Inbound)
        assert any(isinstance(each, Text) and "订单号" in each.text for each in found.segments)

    def test_is_read_there(self, peers: Peers, name):
        peer = sent(name)
        assert peers.ask("timed", name=peer.read, times=1, given=peer.given) > 0

    def test_that_is_broken_is_read_by_neither(self, peers: Peers, name):
        peer = sent(name)
        given = {key: spoilt(value) for key, value in peer.given.items()}
        with pytest.raises(PeerError):
            peers.ask("timed", name=peer.read, times=1, given=given)


def sent(name: str) -> Peer:
    """As its platform sends it now: some SDKs look at the time."""
    return SAMPLES[name](int(time.time()))[1]


def spoilt(value: object) -> object:
    return value[:-1] if isinstance(value, str) else value
