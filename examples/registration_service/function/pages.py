"""The pages: the files of the folder `page`, with headers that forbid everything from elsewhere."""

from functools import cache
from pathlib import Path

from answers import Event, Response, problem

# A link to `examples/signup_page`, whose files the deployment copies.
FOLDER = Path(__file__).with_name("page")

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000",
    "Cache-Control": "no-cache",
}


def page(event: Event, _: object) -> Response:
    """GET / and GET /{file}: return a file of the pages, without a request to the database."""
    name = (event.get("pathParameters") or {}).get("file", "index.html")
    if name not in _files():
        return problem(404, "there is no such page")
    headers = {"Content-Type": _TYPES[Path(name).suffix], **_HEADERS}
    return {"statusCode": 200, "headers": headers, "body": _files()[name]}


@cache
def _files() -> dict[str, str]:
    """Return the content of each file by its name; no other path can be read."""
    return {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir() if file.suffix in _TYPES}
