"""What opens a report in a browser."""

from collections.abc import Callable

from playwright.sync_api import Page

Open = Callable[..., Page]
"""Opens a report; what is said to it goes to the browser's context: width, colour scheme."""
