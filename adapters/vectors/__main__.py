"""The command line of the vector runner."""

import sys

from adapters.vectors import main

sys.exit(main(sys.argv[1:]))
