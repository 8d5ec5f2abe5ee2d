"""`load_function`: the function `module:function` that `outbox run` calls."""

import importlib
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from registration_persistence.cli.console import WrongUse, shortened
from registration_persistence.outbox_worker.delivery import Deliver, DeliverBatch


def load_function(name: str, *, given_as: str = "--deliver") -> Deliver | DeliverBatch:
    """Import the function `module:function`.

    The module may be in the current folder, which is searched last: a file in it never replaces a module that is
    installed, such as the SDK of AWS.

    Args:
        name: Names of the module and of the function.
        given_as: The name of the option or of the variable, for error messages. Defaults to the option.

    Raises:
        WrongUse: *name* does not have this form, the function cannot be imported or called, or the module is both in
            the current folder and installed.
    """
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute) or module.startswith("."):
        raise WrongUse(f"{given_as} {shortened(name)}: expected module:function, for example myservice.mail:deliver")
    with suppress(FileNotFoundError):  # the current folder has been removed
        _search_last(Path.cwd())
        _check_unambiguous(f"{given_as} {shortened(name)}", module.partition(".")[0], Path.cwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise WrongUse(
            f"{given_as} {shortened(name)}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not callable(found):
        raise WrongUse(f"{given_as} {shortened(name)}: {attribute} cannot be called")
    deliver: Deliver | DeliverBatch = found
    return deliver


def _search_last(folder: Path) -> None:
    """Move a folder to the end of `sys.path`, where PYTHONPATH may have put it first."""
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).absolute() != folder] + [str(folder)]


def _check_unambiguous(given: str, package: str, folder: Path) -> None:
    """Check that the top-level module in *folder* is the one that would be imported."""
    here = PathFinder.find_spec(package, [str(folder)])
    if here is None or here.origin is None:  # a folder without __init__.py has no origin, and never shadows a module
        return
    if package in sys.modules:
        first = getattr(sys.modules[package], "__file__", None)
    else:
        found = find_spec(package)
        first = found and found.origin
    if first is None or Path(first).resolve() != Path(here.origin).resolve():
        raise WrongUse(
            f"{given}: {Path(here.origin).relative_to(folder)} has the name of another module "
            f"({first or 'built-in'}), which is found first: rename it, or run the command in another folder"
        )
