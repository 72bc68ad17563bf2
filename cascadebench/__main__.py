"""``python -m cascadebench``."""

from cascadebench.cli import main

main()
