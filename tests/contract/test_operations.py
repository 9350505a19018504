"""Every operation of the OpenAPI document keeps what the document says of it.

Made-up requests, right and wrong ones, go to a real server: as the owner of a tenant that has some
of everything, as an operator, and as nobody. A new route is covered by being in the document.
"""

import zlib
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation

from control_plane.app import create_app
from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.media.storage import folder
from control_plane.parts import build
from tests.conftest import PUBLIC_URL
from tests.contract.server import Furnished, Served


def document() -> dict[str, Any]:
    """What the application says of itself; nothing is connected for it."""
    parts = build(
        database_url="postgresql+asyncpg://nobody@127.0.0.1/none",
        keys=Keyring(["the-key-of-these-tests-has-enough-characters"]),
        clock=SystemClock(),
        public_url=PUBLIC_URL,
        media=folder(Path()),
    )
    return create_app(parts, web_pages=Path()).app.openapi()


def schema(*, phases: dict[str, Any]) -> Any:
    """The document, for requests of these phases, the same in each run."""
    off = {"enabled": False}
    return schemathesis.openapi.from_dict(
        document(),
        config=SchemathesisConfig.from_dict(
            {
                "seed": 1,
                "phases": {"examples": off, "coverage": off, "stateful": off} | phases,
                # Segments may hold segments: their cases have no end.
                "operations": [
                    {"include-operation-id": "send_message", "phases": {"coverage": off}}
                ],
                "generation": {
                    "deterministic": True,
                    "no-shrink": True,
                    # Said in words for the whole document; `TestText` sends it.
                    "allow-x00": False,
                    # Who calls is the test's choice.
                    "with-security-parameters": False,
                },
                "checks": {
                    # Strangers have a test of their own, without a second request for each.
                    "ignored_auth": off,
                    # So have methods; of two patterns for one address the check knows one.
                    "unsupported_method": off,
                    "allow_header_conformance": off,
                    "negative_data_rejection": {
                        "expected-statuses": [
                            "400",
                            "401",
                            "403",
                            "404",
                            "405",
                            "409",
                            "413",
                            "422",
                        ]
                    },
                    "positive_data_acceptance": off,
                },
            }
        ),
    )


EVERYTHING = schema(phases={"coverage": {"enabled": True}})
SOME = schema(phases={})


def examples(count: int) -> Any:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        # One tenant for all requests to an operation.
        suppress_health_check=list(HealthCheck),
    )


def call(case: Any, who: Furnished, served: Served) -> Any:
    """Send it as somebody, three times out of four to something that exists."""
    if case.meta is None or not case.meta.is_negative_at(ParameterLocation.PATH):
        for name, made_up in (case.path_parameters or {}).items():
            known, choice = who.of(name), zlib.crc32(str(made_up).encode("utf-8", "replace"))
            if known and choice % 4:
                case.path_parameters[name] = known[choice // 4 % len(known)]
    headers = {"authorization": f"Bearer {who.token}"} if who.token else {}
    return case.call(base_url=served.url, headers=headers, session=served.http)


def check(case: Any, answer: Any) -> None:
    """All that the document promises.

    What fits it is never refused as `invalid_request`; other codes speak of the state of things,
    such as a link that was used.
    """
    case.validate_response(answer)
    right = case.meta is None or not case.meta.generation.mode.is_negative
    if right and answer.status_code in {400, 422}:
        assert answer.json()["code"] not in {"invalid_request", "http_400"}, answer.text


class TestOwner:
    @EVERYTHING.parametrize()
    @examples(5)
    def test_gets_what_the_document_says(self, case, owner: Furnished, served: Served) -> None:
        check(case, call(case, owner, served))


class TestOperator:
    @SOME.parametrize()
    @examples(2)
    def test_gets_what_the_document_says(self, case, operator: Furnished, served: Served) -> None:
        check(case, call(case, operator, served))


class TestNobody:
    @SOME.parametrize()
    @examples(1)
    def test_gets_what_the_document_says(self, case, nobody: Furnished, served: Served) -> None:
        answer = call(case, nobody, served)

        check(case, answer)
        asked = case.operation.definition.raw["security"]
        assert not asked or {} in asked or answer.status_code in {400, 401, 413, 422}
