"""A stand-in for the instance agent: reports what it was given, then does what it is told."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    bootstrap = Path(options["--bootstrap-file"])
    hello = {
        "pid": os.getpid(),
        "argv": sys.argv[1:],
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "session": os.getsid(0),
        "token": bootstrap.read_text(),
        "bootstrap_mode": bootstrap.stat().st_mode & 0o777,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "address_space": resource.getrlimit(resource.RLIMIT_AS),
    }
    bootstrap.unlink()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    url = urlsplit(options["--control-url"])
    with socket.create_connection((url.hostname, url.port)) as connection:
        stream = connection.makefile("rw")
        print(json.dumps(hello), file=stream, flush=True)
        for line in stream:
            print(json.dumps(obey(*json.loads(line))), file=stream, flush=True)


def obey(order: str, argument: str) -> object:
    match order:
        case "say":
            print(argument)
        case "exit":
            sys.exit(int(argument))
        case "ignore_sigterm":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "may_use":
            data, _ = resource.getrlimit(resource.RLIMIT_DATA)
            return [data, os.getpriority(os.PRIO_PROCESS, 0)]
        case "take":
            try:
                return "taken" if bytearray(int(argument)) else None
            except MemoryError:
                return "MemoryError"
        case "start":
            return subprocess.Popen(["sleep", "600"]).pid
    return None


main()
