"""`offer_groups`: lets libpq's own copy of OpenSSL offer other groups, and changes no other TLS of this process."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import pq

from registration_persistence.errors import ConfigurationError

if TYPE_CHECKING:
    from ctypes import PyDLL

_VARIABLE = "APP_DATABASE_TLS_GROUPS"

# OpenSSL reads these names; those in brackets are ours.
_CONFIGURATION = """
openssl_conf = libpq
[libpq]
ssl_conf = libpq_ssl
[libpq_ssl]
system_default = libpq_groups
[libpq_groups]
{others}
Groups = {groups}
"""

# The values of the machine that can be written into a configuration as they are.
_PLAIN = re.compile(r"[A-Za-z0-9_.]+ = [A-Za-z0-9_.,:+!@=/? -]*")

# OPENSSL_INIT_LOAD_CONFIG: reads the configuration of the machine now, so that it does not replace ours later.
_LOAD_CONFIGURATION = 0x40

# The groups that libpq offers; empty for those of OpenSSL.
_offered = ""


def offer_groups(groups: str) -> None:
    """Let every later connection of libpq in this process offer *groups*, in this order.

    `psycopg[binary]` has a copy of OpenSSL of its own, so `ssl` and all other libraries keep their groups. OpenSSL does
    not lock its configuration: no other thread may begin a connection of psycopg during the first call.

    Args:
        groups: OpenSSL's names of the groups, separated by colons.

    Raises:
        ConfigurationError: psycopg has no copy of OpenSSL of its own, or libpq offers other groups already.
    """
    global _offered  # noqa: PLW0603 it is the state of OpenSSL, which belongs to the process
    if groups == _offered:
        return
    if _offered:
        raise ConfigurationError(
            [f"{_VARIABLE} is {groups!r}, but libpq offers {_offered!r} already: expected one value in a process"]
        )
    _offered = groups
    try:
        crypto = _own_openssl()
        others = "\n".join(_settings_of_the_machine(crypto))
        _configure(crypto, _CONFIGURATION.format(others=others, groups=groups).encode())
    except BaseException:
        _offered = ""
        raise


def _own_openssl() -> "PyDLL":
    """Return the libcrypto that only psycopg uses; a call of it keeps the other threads of Python waiting."""
    from ctypes import PyDLL

    if pq.__impl__ == "binary":
        import psycopg_binary

        libraries = Path(psycopg_binary.__file__).parent.with_name("psycopg_binary.libs")
        for file in libraries.glob("libcrypto*.so*"):
            return PyDLL(str(file))
    problem = (
        f"{_VARIABLE} is set, but psycopg ({pq.__impl__}) has no OpenSSL of its own, so the groups of others change"
    )
    raise ConfigurationError([f"{problem}: install psycopg[binary] on Linux, or unset it and use OPENSSL_CONF"])


def _function(crypto: "PyDLL", name: str, result: Any, *arguments: Any) -> Any:
    found = getattr(crypto, name)
    found.restype, found.argtypes = result, arguments
    return found


def _settings_of_the_machine(crypto: "PyDLL") -> Iterator[str]:
    """Yield the lines of the machine's configuration that apply to each connection, because ours replaces them.

    Raises:
        ConfigurationError: A value has characters with a meaning in the configuration.
    """
    from ctypes import POINTER, c_char_p, c_int, c_void_p

    file = _function(crypto, "CONF_get1_default_config_file", c_char_p)()
    configuration = _function(crypto, "NCONF_new", c_void_p, c_void_p)(None)
    string = _function(crypto, "NCONF_get_string", c_char_p, c_void_p, c_char_p, c_char_p)
    try:
        loaded = _function(crypto, "NCONF_load", c_int, c_void_p, c_char_p, c_void_p)(configuration, file, None)
        section = None
        for name in (b"openssl_conf", b"ssl_conf", b"system_default"):
            section = string(configuration, section, name) if loaded > 0 else None
            if section is None:
                return
        stack = _function(crypto, "NCONF_get_section", c_void_p, c_void_p, c_char_p)(configuration, section)
        # A value has three texts: its section, its name and its value.
        value_at = _function(crypto, "OPENSSL_sk_value", POINTER(c_char_p), c_void_p, c_int)
        for place in range(_function(crypto, "OPENSSL_sk_num", c_int, c_void_p)(stack)):
            _, name, value = value_at(stack, place)[:3]
            line = f"{name.decode(errors='replace')} = {value.decode(errors='replace')}"
            if not _PLAIN.fullmatch(line):
                raise ConfigurationError([f"{_VARIABLE} is set, but OPENSSL_CONF has {line!r}: set Groups there"])
            yield line
    finally:
        _function(crypto, "NCONF_free", None, c_void_p)(configuration)


def _configure(crypto: "PyDLL", text: bytes) -> None:
    """Give *crypto* the configuration *text*, as if it were the file of OPENSSL_CONF."""
    from ctypes import c_char_p, c_int, c_uint64, c_ulong, c_void_p

    function = partial(_function, crypto)
    function("OPENSSL_init_crypto", c_int, c_uint64, c_void_p)(_LOAD_CONFIGURATION, None)
    function("OPENSSL_load_builtin_modules", None)()
    memory = function("BIO_new_mem_buf", c_void_p, c_char_p, c_int)(text, len(text))
    configuration = function("NCONF_new", c_void_p, c_void_p)(None)
    try:
        loaded = function("NCONF_load_bio", c_int, c_void_p, c_void_p, c_void_p)(configuration, memory, None)
        load = function("CONF_modules_load", c_int, c_void_p, c_char_p, c_ulong)
        if loaded <= 0 or load(configuration, None, 0) <= 0:
            raise ConfigurationError([f"{_VARIABLE} is set, but the OpenSSL of psycopg refuses it: unset it"])
    finally:
        function("NCONF_free", None, c_void_p)(configuration)
        function("BIO_free", c_int, c_void_p)(memory)
