import structlog

from instance_agent import logs

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class TestShape:
    def test_names_the_fields_of_the_house_and_keeps_the_rest_as_data(self):
        line = logs.shape(None, "info", {"event": "done", "level": "info", "count": 3})
        assert line.pop("timestamp").endswith("+00:00")
        assert line == {
            "level": "info",
            "service": "instance_agent",
            "traceId": "",
            "spanId": "",
            "message": "done",
            "data": {"count": 3},
        }


class TestTrace:
    def test_a_traceparent_is_carried_by_every_line_of_the_task(self):
        with structlog.contextvars.bound_contextvars():
            logs.trace(f"00-{TRACE}-{SPAN}-01")
            bound = structlog.contextvars.get_contextvars()
            structlog.contextvars.unbind_contextvars("traceId", "spanId")
        assert bound == {"traceId": TRACE, "spanId": SPAN}

    def test_anything_else_is_ignored(self):
        for header in (None, "", "00-x-y-01", f"00-{TRACE}-{SPAN}-01\n"):
            logs.trace(header)
        assert structlog.contextvars.get_contextvars() == {}
