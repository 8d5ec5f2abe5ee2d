"""The data directory of a local PostgreSQL server, and the programs that are run on it."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from registration_persistence.sandbox.errors import LocalServerError
from registration_persistence.sandbox.isolation import server_environment
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.temporary_folder import TemporaryFolder, is_readable_by_all

# PostgreSQL refuses to run as root, so the server runs as "nobody" then; this is the conventional id.
_NOBODY = 65534

# The mode of a folder of root, in which the user of the server finds its data.
_ENTER_ONLY = 0o711


class DataDirectory:
    """A temporary folder with the data of a server, made at once; `remove` deletes it.

    Only the user of the server can read the data. If that is not the user of this process, the folder around the data
    still belongs to the latter: others of the same user cannot replace a name in it by a link.

    Args:
        binaries: Folder with `initdb` and `pg_ctl`. If the user of the server cannot read it, the programs are copied.
        in_memory: Whether the folder is in memory if there is room. Defaults to false.

    Raises:
        LocalServerError: The user of the server has no name, or the server can use no folder for temporary files.
    """

    def __init__(self, binaries: Path, *, in_memory: bool = False) -> None:
        _check_user_name()
        self._temporary = TemporaryFolder(in_memory=in_memory)
        self._folder = self._temporary.path
        self._path = self._folder / "data"
        try:
            if os.geteuid() == 0:
                self._folder.chmod(_ENTER_ONLY)
            self._path.mkdir(0o700)
            _give_to_server(self._path)
            self._binaries = self._readable(binaries)
        except BaseException:
            self.remove()
            raise

    @property
    def is_running(self) -> bool:
        """Whether a server uses the folder, or was killed while it did."""
        return (self._path / "postmaster.pid").exists()

    def initialise(self, server: PostgresServer, settings: Mapping[str, str], files: Mapping[str, str | bytes]) -> None:
        """Create an empty cluster.

        Args:
            server: Name and password of the superuser.
            settings: Lines of `postgresql.auto.conf`, by name.
            files: Content of further files in the folder, by name, which only the server can read.
        """
        password = self._folder / "password"
        _write(password, server.password)
        self.run(
            "initdb", "-D", self._path, "-U", server.user, "-A", "scram-sha-256", f"--pwfile={password}",
            "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        password.unlink()
        configuration = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        for name, content in {**files, "postgresql.auto.conf": configuration}.items():
            _write(self._path / name, content)

    def copy_from(self, primary: PostgresServer) -> None:
        """Create a streaming standby of a running server."""
        self.run(
            "pg_basebackup", "-D", self._path, "-h", primary.host, "-p", str(primary.port), "-U", primary.user,
            "-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S", f"standby_{secrets.token_hex(4)}",
            environment={"PGPASSWORD": primary.password},
        )  # fmt: skip

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl` on the folder and wait until it has done its work."""
        self.run("pg_ctl", "-D", self._path, "-w", "-l", self._path / "log", *arguments)

    def run(self, program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Run a program of PostgreSQL as the user of the server.

        Raises:
            LocalServerError: The program failed; the message has its output and the server's log.
        """
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [self._binaries / program, *arguments],
                cwd="/",
                env={**server_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,  # not a pipe, which the server would keep open while it runs
                stderr=output,
                start_new_session=True,
                **_server_identity(),
            )
            try:
                code = process.wait()
            except BaseException:
                process.wait()  # a server that is only half started can be neither stopped nor removed
                raise
            if code:
                raise LocalServerError(f"{program} failed with exit code {code}:\n{self._complaint(output)}")

    def remove(self) -> None:
        """Delete the folder."""
        self._temporary.remove()

    def _readable(self, binaries: Path) -> Path:
        if os.geteuid() != 0 or is_readable_by_all(binaries):
            return binaries
        package, name = binaries.parents[1], binaries.parent.name
        copy = self._folder / "programs" / package.name
        shutil.copytree(binaries.parent, copy / name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = package.with_name(f"{package.name}.libs")  # the programs find them by their place
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        for path in reversed((copy.parent, *copy.parent.rglob("*"))):  # a folder last, because its owner can change it
            _give_to_server(path)
        return copy / name / binaries.name

    def _complaint(self, output: IO[bytes]) -> str:
        output.seek(0)
        log = b""
        with suppress(OSError), os.fdopen(os.open(self._path / "log", os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            log = file.read()
        return (output.read() + log).decode(errors="replace").strip()


def _write(file: Path, content: str | bytes) -> None:
    """Write a file that only the server can read, in the place of an existing one; a link is not followed."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content if isinstance(content, bytes) else content.encode())
        if os.geteuid() == 0:
            os.fchown(descriptor, _NOBODY, _NOBODY)


def _check_user_name() -> None:
    """Check that the id of the user of the server has a name, which initdb looks up and containers often do not have.

    Raises:
        LocalServerError: The id has no name.
    """
    user = _server_identity().get("user", os.geteuid())
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise LocalServerError(
            f"the user id {user} is not in /etc/passwd, and initdb of PostgreSQL needs a user name: add a line such as "
            f"postgres:x:{user}:{user}::/tmp:/bin/false to /etc/passwd, or run as a user that has one"
        ) from None


def _give_to_server(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)


def _server_identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
