"""`python -m adapters.vectors FOLDER`: run vector files through the codecs.

A file is `{"platform", "format": 1, "vectors": [{"id", "kind", "input", "expect"}]}`. A kind that
no codec here can run counts as failed, so the number says how much of the format is built.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters import standard_webhooks
from adapters.standard_webhooks import SignatureError

Run = Callable[[dict[str, Any], dict[str, Any]], bool]


def _sign(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    headers = standard_webhooks.sign(
        given["secret"],
        message_id=given["id"],
        timestamp=int(given["timestamp"]),
        body=given["body"].encode(),
    )
    return bool(headers[standard_webhooks.SIGNATURE] == expect["signature"])


def _signed_content(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    content = standard_webhooks.signed_content(
        given["id"], str(given["timestamp"]), given["body"].encode()
    )
    return bool(content == expect["content"].encode())


def _verify(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    headers = {name.lower(): value for name, value in given["headers"].items()}
    stamp = headers.get(standard_webhooks.TIMESTAMP, "0")
    now = given.get("now", int(stamp) if stamp.isdigit() else 0)
    secrets = given.get("secrets") or [given["secret"]]
    try:
        standard_webhooks.verify(secrets, headers, given["body"].encode(), now=now)
    except SignatureError:
        return not expect["accept"]
    return bool(expect["accept"])


RUNS: dict[tuple[str, str], Run] = {
    ("webhook_standard", "sign"): _sign,
    ("webhook_standard", "signed_content"): _signed_content,
    ("webhook_standard", "verify"): _verify,
    ("webhook_standard", "reject"): _verify,
}


def run_file(file: Path) -> tuple[int, list[str]]:
    """(how many passed, the names of those that failed)."""
    content = json.loads(file.read_text(encoding="utf-8"))
    failed = []
    for vector in content["vectors"]:
        run = RUNS.get((content["platform"], vector["kind"]))
        if run is None or not run(vector["input"], vector["expect"]):
            failed.append(f"{vector['id']} {vector['kind']}: {vector.get('name', '')}")
    return len(content["vectors"]) - len(failed), failed


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stdout.write("Say where the vector files are: make vectors DIR=<folder>\n")
        return 2
    passed, failed = 0, []
    for file in sorted(Path(arguments[0]).glob("*.json")):
        good, bad = run_file(file)
        passed += good
        failed += bad
    sys.stdout.writelines(f"failed  {name}\n" for name in failed)
    sys.stdout.write(f"{passed} passed, {len(failed)} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
