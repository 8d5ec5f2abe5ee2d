"""The FastAPI service in `examples/`, in a process of its own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import httpx
from processes import python_environment

from registration_persistence.sandbox import wait_until

FOLDER = Path(__file__).parents[1] / "examples/fastapi_service"


@dataclass
class FastApiService:
    """The running service.

    Args:
        process: Its process.

    Attributes:
        lines: The lines that it has printed.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Keep each line that it prints, until it ends."""
        assert self.process.stdout
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)

    def found(self, pattern: str) -> list[str]:
        """Return what was printed and matches *pattern*."""
        return re.findall(pattern, "".join(self.lines))

    def token_for(self, address: str, *, number: int = 1) -> str:
        """Return the token of the mail with this *number* to *address*."""
        pattern = rf"mail to {address}: \S+token=(\S+)"
        wait_until(lambda: len(self.found(pattern)) >= number, "the mail is printed")
        return self.found(pattern)[number - 1]

    def url(self) -> str:
        """Return its address, once it is known."""
        wait_until(lambda: self.found(r"running on (\S+)") or self.process.poll(), "the service runs", timeout=60)
        assert self.found(r"running on (\S+)"), "".join(self.lines)
        return self.found(r"running on (\S+)")[0]


@contextmanager
def running_service(variables: Mapping[str, str]) -> Iterator[FastApiService]:
    """Start the service with uvicorn and more environment *variables*; at the end, check that it ends cleanly."""
    command = [sys.executable, "-m", "uvicorn", "signup_api.app:app", "--app-dir", str(FOLDER), "--port", "0"]
    process = subprocess.Popen(
        command, env=python_environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    service = FastApiService(process)
    reader = Thread(target=service.read)
    reader.start()
    try:
        service.url()
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        reader.join()
    assert service.found("Application shutdown complete"), "".join(service.lines)
    assert not service.found("Traceback|Warning"), "".join(service.lines)


def sign_up(client: httpx.Client, email: str, key: str, **changes: object) -> httpx.Response:
    """Post the form of a person."""
    form = {"email": email, "display_name": "Ada", "terms_version": "2026-01", "newsletter": True, **changes}
    return client.post("/registrations", json=form, headers={"Idempotency-Key": f"{email}-{key}"})
