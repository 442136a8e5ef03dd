"""`python -m bridge`: the command line, for whoever runs a bridge. The app itself never imports it."""

from __future__ import annotations

import os
import sys

from bridge import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], os.environ))
