"""`python -m instance_agent`: run one tenant's bot (see --help)."""

import os
import sys

from instance_agent import logs, process, settings

if __name__ == "__main__":
    given = settings.read(sys.argv[1:], os.environ)
    logs.configure(given.log_level)
    sys.exit(process.main(given))
