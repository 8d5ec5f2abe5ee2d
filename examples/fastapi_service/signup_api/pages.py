"""The pages: the files of `examples/signup_page`, with headers that forbid everything from elsewhere."""

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

SIGNUP_PAGE = Path(__file__).parents[2] / "signup_page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

# The pages of the local service replace it with links to each other.
NAVIGATION = "<!-- navigation -->"


def serve_pages(app: FastAPI, *folders: Path, navigation: str = "") -> None:
    """Serve each file of *folders* at its name, and `index.html` at `/`, too.

    Args:
        app: The application.
        folders: The folders; they are read once.
        navigation: HTML that each page shows at its top.
    """
    for file in _files(folders):
        content = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            content = content.replace(NAVIGATION, navigation)
        _serve(app, f"/{file.name}", content, _TYPES[file.suffix])
        if file.name == "index.html":
            _serve(app, "/", content, _TYPES[file.suffix])


def _files(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.iterdir()) if file.suffix in _TYPES]


def _serve(app: FastAPI, path: str, content: str, media_type: str) -> None:
    async def page() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    app.add_api_route(path, page, methods=["GET", "HEAD"], name=f"page {path}", include_in_schema=False)
