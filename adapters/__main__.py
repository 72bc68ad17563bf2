"""``python -m adapters``: the arithmetic that the runs ask for is chosen before torch is there, then they are done."""

import sys

from adapters.portable_arithmetic import choose_arithmetic


def main(argv: list[str]) -> int:
    """Choose the arithmetic, then hand over to :func:`adapters.command_line.main`; returns its exit code."""
    choose_arithmetic(argv)
    from adapters.command_line import main

    return main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
