import pytest

from adapters.model import ConversationKey
from adapters.wecom_aibot.streams import LIFE_S, MAX_OPEN, MAX_STREAMS, Streams
from tests.adapters.hosting import SetClock

ZHANG = ConversationKey(type="direct", id="zhangsan")
LI = ConversationKey(type="direct", id="lisi")


@pytest.fixture
def streams(clock: SetClock) -> Streams:
    return Streams(clock=clock)


class TestStreams:
    def test_a_question_that_comes_again_has_its_stream(self, streams):
        assert streams.begin("a", ZHANG) is streams.begin("a", ZHANG)

    def test_only_so_many_are_shown_in_one_talk(self, streams):
        quiet = [streams.begin(str(number), ZHANG).quiet for number in range(MAX_OPEN + 1)]
        assert quiet == [False] * MAX_OPEN + [True]
        assert not streams.begin("other", LI).quiet
        streams.get("0").end()
        assert not streams.begin("next", ZHANG).quiet

    def test_what_the_platform_asks_for_is_open(self, streams):
        for number in range(MAX_OPEN):
            streams.begin(str(number), ZHANG)
        assert not streams.asked_for("more", ZHANG).quiet

    def test_a_stream_is_open_for_so_long(self, streams, clock):
        stream = streams.begin("a", ZHANG)
        clock.time += LIFE_S - 1
        assert (streams.is_open(stream), streams.late()) == (True, [])
        clock.time += 1
        assert (streams.is_open(stream), streams.late()) == (False, [stream])

    def test_what_has_long_ended_holds_no_answer(self, streams, clock):
        stream = streams.begin("a", ZHANG)
        stream.end("九点")
        assert streams.late() == []
        clock.time += LIFE_S
        assert (streams.late(), stream.content) == ([], "")

    def test_older_ones_are_those_of_the_same_talk_that_are_open(self, streams):
        first, second = streams.begin("1", ZHANG), streams.begin("2", ZHANG)
        streams.begin("3", LI)
        newest = streams.begin("4", ZHANG)
        streams.begin("5", ZHANG)
        second.end()
        assert streams.older(newest) == [first]

    def test_there_are_never_more_than_can_be_remembered(self, streams):
        for number in range(MAX_STREAMS + 1):
            streams.begin(str(number), ZHANG)
        assert streams.get("0") is None
        assert streams.get(str(MAX_STREAMS)) is not None
