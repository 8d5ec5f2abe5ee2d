"""Builds the documentation site: `make docs`. It needs no network.

The pages are copied to build/site-source/ with links, lists and diagrams that work on the site. Zensical then writes
site/, for which zensical.toml at the root has the navigation and the settings.
"""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import site_llms
import site_reference
from site_diagrams import with_pictures
from site_markdown import for_python_markdown
from site_pages import SitePages

ROOT = Path(__file__).parents[2]
STAGE = ROOT / "build" / "site-source"
SITE = ROOT / "site"
# A function that type checkers see as an import, which griffe cannot follow.
_HARMLESS = "src/registration_persistence/light_dataclass.py:"


def stage(root: Path, folder: Path) -> None:
    """Write the Markdown and the pictures of the site.

    Args:
        root: The folder of the checkout.
        folder: The folder to write to; it is emptied before.
    """
    shutil.rmtree(folder, ignore_errors=True)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = SitePages(root, project["urls"]["Repository"])
    texts = {target: pages.text(source) for source, target in pages.paths.items()}
    texts |= site_reference.pages(root / "src" / "registration_persistence")
    decisions = _list(texts, "decisions")
    texts["decisions/index.md"] = f"# Decisions\n\nEach page states a principle and its reason.\n\n{decisions}"
    texts["decisions/SUMMARY.md"] = f"- [All decisions](index.md)\n{decisions}"
    texts["howto/index.md"] = f"# How-tos\n\nEach page solves one task.\n\n{_list(texts, 'howto')}"
    for target, markdown in texts.items():
        file = folder / target
        file.parent.mkdir(parents=True, exist_ok=True)
        pictures = os.path.relpath(folder / "pictures", file.parent)
        text = for_python_markdown(with_pictures(markdown, folder / "pictures", pictures))
        file.write_text(text, encoding="utf-8")
    for picture in pages.pictures():
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / "docs" / picture, folder / picture)
    shutil.copytree(Path(__file__).parent / "assets", folder / "assets")


def _list(texts: dict[str, str], folder: str) -> str:
    """Return a Markdown list of the pages in *folder*."""
    paths = sorted(path for path in texts if path.startswith(f"{folder}/"))
    titles = [texts[path].partition("\n")[0].removeprefix("# ") for path in paths]
    return "".join(f"- [{title}]({Path(path).name})\n" for path, title in zip(paths, titles, strict=True))


def _run_zensical() -> bool:
    """Write the site, print the problems, and return whether there are none."""
    zensical = [sys.executable, "-I", "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(  # noqa: S603 our own arguments
        zensical, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines(keepends=True) if _HARMLESS not in line]
    sys.stdout.writelines(lines)
    return done.returncode == 0 and not any(line.startswith("griffe:") for line in lines)


def main() -> int:
    """Build the site, and print how long it took."""
    started = time.perf_counter()
    stage(ROOT, STAGE)
    shutil.rmtree(SITE, ignore_errors=True)
    if not _run_zensical():
        return 1
    site_llms.write(ROOT / "zensical.toml", STAGE, SITE)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"Built site/ in {seconds:.1f} s. Look at it: python3 -m http.server -d site\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
