"""`python -m adapters.vectors FOLDER`: run vector files through the codecs.

A file is `{"platform", "format": 1, "vectors": [{"id", "kind", "input", "expect"}]}`. A kind that
no codec here can run counts as failed, so the number says how much of the format is built.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapters.vectors import dingtalk, feishu, onebot11, qq, webhook_standard, wecom

Run = Callable[[dict[str, Any], dict[str, Any]], bool]

# By platform and kind: whether our code answers as expected.
RUNS: Mapping[str, Mapping[str, Run]] = {
    "dingtalk": dingtalk.RUNS,
    "feishu": feishu.RUNS,
    "onebot11": onebot11.RUNS,
    "qq_official": qq.RUNS,
    "webhook_standard": webhook_standard.RUNS,
    "wecom": wecom.RUNS,
}


def run_file(file: Path) -> tuple[int, list[str]]:
    """(how many passed, the names of those that failed)."""
    content = json.loads(file.read_text(encoding="utf-8"))
    failed = []
    for vector in content["vectors"]:
        run = RUNS.get(content["platform"], {}).get(vector["kind"])
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
