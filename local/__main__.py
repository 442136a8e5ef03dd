"""The command line: `python -m local up`."""

import sys

from local import up

_USAGE = (
    "usage: python -m local up [--pipelines DIR] [--state DIR] [--airflow NAME=URL]… (see python -m local up --help)"
)


def main() -> int:
    """Run a command and return its exit code."""
    match sys.argv[1:]:
        case ["up", *arguments]:
            return up.main(arguments)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
