import pytest

from instance_agent.llm.counting import Counting
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.pieces import Piece
from instance_agent.metrics import Metrics
from instance_agent.protocol import Usage


@pytest.fixture
def metrics():
    return Metrics()


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"botyard_agent_model_{name}", labels)


class TestCounting:
    def test_an_answer_counts_once_with_its_times_and_tokens(self, metrics):
        with Counting(metrics, "openai") as counting:
            counting.saw(Piece(renewed=True))
            for _ in range(2):
                counting.saw(Piece(text="hi"))
            counting.saw(Piece(usage=Usage(prompt_tokens=7, completion_tokens=2)))
        assert value(metrics, "calls_total", kind="openai", outcome="ok") == 1
        assert value(metrics, "seconds_count", kind="openai", until="first word") == 1
        assert value(metrics, "seconds_count", kind="openai", until="last word") == 1
        assert value(metrics, "tokens_total", kind="openai", direction="asked") == 7
        assert value(metrics, "tokens_total", kind="openai", direction="answered") == 2

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [(ModelFailed("timeout", "late"), "timeout"), (GeneratorExit(), "left")],
    )
    def test_what_ends_otherwise_counts_by_its_class(self, metrics, error, outcome):
        with pytest.raises(type(error)), Counting(metrics, "dify"):
            raise error
        assert value(metrics, "calls_total", kind="dify", outcome=outcome) == 1
        assert value(metrics, "seconds_count", kind="dify", until="last word") is None
