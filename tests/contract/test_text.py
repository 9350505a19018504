"""What no schema says and every stranger tries: broken text, numbers, bodies, addresses, methods.

Sent to every operation of the document, whatever it takes, so that new ones are covered.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.server import Furnished, Served
from tests.contract.test_operations import document

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}

BODIES = {
    "a NUL": rb'"a\u0000b"',
    "half a character": rb'"\ud800"',
    "not UTF-8": b'"\xff\xfe"',
    "no number": b"NaN",
    "no end": b"1e999",
    "a large number": b"9" * 4000,
    "too many digits": b"9" * 5000,
    "a deep list": b"[" * 900 + b"]" * 900,
    "a bottomless list": b"[" * 100_000,
    "an odd time": b'"0001-01-01T00:00:00+14:00"',
    "a last time": b'"9999-12-31T23:59:59-14:00"',
    "nothing": b"null",
}
QUERIES = {
    "a NUL": "%00",
    "not UTF-8": "%ff%fe",
    "half a character": "%ed%a0%80",
    "a large number": "9" * 30,
    "less than nothing": "-1",
    "an odd time": "0001-01-01T00:00:00%2B14:00",
    "a last time": "9999-12-31T23:59:59-14:00",
    "a percent sign": "%",
}


DOCUMENT = document()
PATHS = DOCUMENT["paths"]
SCHEMAS = DOCUMENT["components"]["schemas"]


def operations(wanted: Callable[[str, dict[str, Any]], object]) -> list[Any]:
    return [
        pytest.param(method.upper(), path, operation, id=operation["operationId"])
        for path, methods in PATHS.items()
        for method, operation in methods.items()
        if wanted(method, operation)
    ]


def fields(operation: dict[str, Any]) -> list[str]:
    """The names in the operation's body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            return list(SCHEMAS[choice["$ref"].rpartition("/")[2]].get("properties", {}))
    return []


def address(path: str, who: Furnished) -> str:
    """With ids of what is there."""
    steps = (
        (who.of(step[1:-1]) or ["00000000-0000-7000-8000-000000000000"])[0]
        if step.startswith("{")
        else step
        for step in path.split("/")
    )
    return "/".join(steps)


@pytest.fixture(scope="module")
def owner(served: Served) -> Furnished:
    """One for all: what is refused destroys nothing."""
    return served.as_owner()


class TestText:
    @pytest.mark.parametrize(("method", "path", "operation"), operations(lambda _, o: fields(o)))
    def test_that_nobody_can_keep_is_refused(
        self, method: str, path: str, operation: dict[str, Any], owner: Furnished, served: Served
    ) -> None:
        names = fields(operation)
        for what, value in BODIES.items():
            for body in (
                b"{" + b",".join(json.dumps(name).encode() + b":" + value for name in names) + b"}",
                b'{"' + b'x\\u0000":' + value + b"}",
                value,
            ):
                answer = send(served, owner, method, address(path, owner), body=body)
                assert answer.status_code < 500, f"{what}: {answer.text}"
                assert problem_or_success(answer), f"{what}: {answer.text[:200]}"

    @pytest.mark.parametrize(("method", "path", "operation"), operations(lambda m, _: m == "get"))
    def test_in_addresses_breaks_nothing(
        self, method: str, path: str, operation: dict[str, Any], owner: Furnished, served: Served
    ) -> None:
        names = [parameter.get("name", "x") for parameter in operation.get("parameters", ())]
        for what, value in QUERIES.items():
            query = "&".join(f"{name}={value}" for name in [*names, "x"])
            for target in (
                f"{address(path, owner)}?{query}",
                address(path, Furnished(token=None, ids={name: [value] for name in names})),
            ):
                answer = send(served, owner, method, target)
                assert answer.status_code < 500, f"{what}: {answer.text}"
                assert problem_or_success(answer), f"{what}: {answer.text[:200]}"


class TestMethods:
    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_that_a_path_has_not_are_a_problem_that_lists_those_it_has(
        self, path: str, nobody: Furnished, served: Served
    ) -> None:
        target = address(path, nobody)
        known = {method.upper() for method in methods_of(target)}
        for method in sorted(METHODS - known):
            answer = send(served, nobody, method, target)
            assert answer.status_code == 405
            assert answer.json()["code"] == "method_not_allowed"
            assert known <= set(answer.headers["allow"].split(", "))


def methods_of(target: str) -> Iterator[str]:
    """All methods of the patterns that fit an address; there may be two."""
    for path, methods in PATHS.items():
        if re.fullmatch(re.sub(r"{[^}]+}", "[^/]+", path), target):
            yield from methods


def send(
    served: Served, who: Furnished, method: str, target: str, *, body: bytes | None = None
) -> Any:
    headers = {"authorization": f"Bearer {who.token}"} if who.token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    return served.http.request(method, served.url + target, data=body, headers=headers)


def problem_or_success(answer: Any) -> bool:
    return bool(answer.ok or answer.headers["content-type"] == "application/problem+json")
