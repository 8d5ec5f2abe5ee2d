"""The site is built once for all tests, in a network namespace without a network if the system allows that."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import open_browser
from playwright.sync_api import Browser
from site_html import Page, read_page

from registration_persistence.testing import skip_or_fail

ROOT = Path(__file__).parents[2]
_PYTHON = ROOT / ".venv-docs/bin/python"
# Both namespaces, because only root may create one for the network alone.
_WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site."""
    if not _PYTHON.exists():
        skip_or_fail("the generator of the site is not installed: run `make docs`")
    isolated = shutil.which("unshare") and subprocess.run([*_WITHOUT_NETWORK, "true"], check=False).returncode == 0
    if not isolated and os.environ.get("CI"):
        pytest.fail("no network namespace can be created: run as root")
    built = subprocess.run(
        [*(_WITHOUT_NETWORK if isolated else ()), _PYTHON, "docs/builder/build_site.py"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    return ROOT / "site"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    """The pages of the site by the path of their file; the page for unknown addresses is left out."""
    return {file: read_page(file) for file in site.rglob("*.html") if file.name != "404.html"}


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address of a plain web server for the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium. While it is open, this thread has an event loop, which other modules do not expect."""
    with open_browser() as browser:
        yield browser
