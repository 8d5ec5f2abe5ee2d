"""`open_browser`: a headless Chromium for the tests of pages; it reaches no address but those of this machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from registration_persistence.testing import skip_or_fail

_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def require_chromium() -> str:
    """Return the path of Chromium: that of the variable CHROMIUM, or the first one on the PATH.

    Without one the test is skipped; with the environment variable `CI` it fails.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        skip_or_fail("Chromium is not installed: apt-get install chromium-headless-shell, or name one in CHROMIUM")
    return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium for one block. Every host name but localhost is unknown to it."""
    path = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            # The sandbox of Chromium refuses root, as which containers run.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1"],
        )
        try:
            yield browser
        finally:
            browser.close()
