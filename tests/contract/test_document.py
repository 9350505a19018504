"""The OpenAPI document itself: whole, valid, and honest about what is no JSON."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute

from tests.contract.test_operations import document

NO_SECRET_NEEDED = {
    "begin_sign_on",
    "download_media",
    "end_sign_on",
    "upload_media",
    "login",
    "register",
    "request_reset",
    "reset_password",
    "accept_invitation",
}
"""Operations for strangers; what proof they ask for is in their bodies."""

STREAMS = {
    "export_audit": {"application/x-ndjson"},
    "export_tenant": {"application/zip"},
    "export_contact": {"application/zip"},
    "get_logs": {"application/json", "application/x-ndjson"},
}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document()


@pytest.fixture(scope="module")
def operations(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


class TestDocument:
    def test_is_valid_openapi(self, described: dict[str, Any]) -> None:
        schemathesis.openapi.from_dict(described).validate()

    def test_that_is_not_would_be_noticed(self, described: dict[str, Any]) -> None:
        broken = described | {"paths": {"/x": {"get": {"responses": {"200": {}}}}}}

        with pytest.raises(ValueError, match="description"):
            schemathesis.openapi.from_dict(broken).validate()

    def test_is_the_same_when_asked_again(self, app) -> None:
        assert app.app.openapi() is app.app.openapi()

    async def test_is_served(self, client, described: dict[str, Any]) -> None:
        answer = await client.get("/api/v1/openapi.json")

        assert answer.json() == described

    def test_names_each_operation_once(self, operations) -> None:
        names = [operation["operationId"] for operation in operations.values()]

        assert len(set(names)) == len(names)

    def test_says_of_every_operation_what_it_does(self, operations) -> None:
        silent = {
            name
            for name, operation in operations.items()
            if not operation.get("summary")
            or not operation.get("description", "").split("\n\nNeeds ")[0]
            or not operation.get("tags")
        }

        assert silent == set()

    def test_says_of_every_operation_who_may_call(self, operations) -> None:
        open_to_all = {
            operation["operationId"]
            for operation in operations.values()
            if operation["security"] == []
        }

        assert open_to_all == NO_SECRET_NEEDED
        assert all("security" in operation for operation in operations.values())


class TestErrors:
    def test_are_problems_of_one_form(self, described: dict[str, Any], operations) -> None:
        own = {
            (name, status)
            for name, operation in operations.items()
            for status, answer in operation["responses"].items()
            if status >= "4" and not answer.get("$ref", "").startswith("#/components/responses/")
        }
        forms = {
            (media_type, content["schema"]["$ref"])
            for answer in described["components"]["responses"].values()
            for media_type, content in answer["content"].items()
        }

        assert own == set()
        assert forms == {("application/problem+json", "#/components/schemas/Problem")}

    def test_of_who_calls_are_where_somebody_must(self, operations) -> None:
        missing = {
            name
            for name, operation in operations.items()
            if {"accessToken": []} in operation["security"]
            and not {"401", "403"} <= operation["responses"].keys()
        }

        assert missing == set()

    def test_of_limits_and_outages_are_everywhere(self, operations) -> None:
        missing = {
            name
            for name, operation in operations.items()
            if not {"429", "503"} <= operation["responses"].keys()
        }

        assert missing == set()


class TestAnswers:
    def test_without_a_body_describe_none(self, operations) -> None:
        described = {
            name
            for name, operation in operations.items()
            if operation["responses"].get("204", {}).get("content")
        }

        assert described == set()

    def test_that_stream_say_of_what_type(self, operations) -> None:
        found = {
            operation["operationId"]: set(content)
            for operation in operations.values()
            for status, answer in operation["responses"].items()
            if status.startswith("2")
            and (content := answer.get("content", {})).keys() - {"application/json"}
        }

        assert found.items() >= STREAMS.items()

    def test_of_every_success_have_a_schema(self, operations) -> None:
        loose = {
            name
            for name, operation in operations.items()
            for status, answer in operation["responses"].items()
            if status.startswith("2") and status not in {"202", "204"}
            for content in answer.get("content", {"none": {}}).values()
            if not content.get("schema")
        }

        assert loose == set()


class TestUpgrades:
    def test_are_no_operations_of_http(self, app, described: dict[str, Any]) -> None:
        sockets = set(socket_paths(app.app))

        assert {"/webchat/{token}/ws", "/im/{token}"} <= sockets
        assert sockets & described["paths"].keys() == set()

    @pytest.mark.parametrize("path", ["/webchat/unknown/ws"])
    async def test_asked_for_without_upgrading_are_problems(self, client, path: str) -> None:
        answer = await client.get(path)

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def socket_paths(app: FastAPI) -> Iterator[str]:
    """Where sockets are opened."""
    for context in iter_route_contexts(app.routes):
        route = getattr(context, "original_route", context)
        if isinstance(route, WebSocketRoute) or context.methods is None:
            yield context.path or ""
