"""The API of a container engine that answers, and that may not pull images any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def engine_that_cannot_pull() -> Iterator[str]:
    """Start the API, and yield its address for `DOCKER_HOST`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), EngineWithoutImages) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class EngineWithoutImages(BaseHTTPRequestHandler):
    """A container engine that answers, and that may not pull images any more."""

    def do_GET(self) -> None:
        """Answer a ping and the question for the version; nothing else exists."""
        path = self.path.rpartition("/")[2]
        known = {"_ping": "OK", "version": '{"ApiVersion": "1.41"}'}
        self._answer(200 if path in known else 404, known.get(path, '{"message": "No such image"}'))

    def do_POST(self) -> None:
        """Refuse to pull an image; without it, no container can be created."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/images/create" in self.path:
            self._answer(429, '{"message": "toomanyrequests: You have reached your pull rate limit."}')
        else:
            self._answer(404, '{"message": "No such image"}')

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
