"""``python -m cascadebench``."""

from cascadebench.cli.main import main

main()
