"""`python -m instance_agent`: run one tenant's bot (see --help)."""

import os
import signal
import sys

if __name__ == "__main__":
    # In a container we are the first process: until somebody handles it, the kernel drops SIGTERM,
    # and a pod that is stopped while it starts would take its whole grace.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    from instance_agent import logs, process, settings

    given = settings.read(sys.argv[1:], os.environ)
    logs.configure(given.log_level)
    sys.exit(process.main(given))
