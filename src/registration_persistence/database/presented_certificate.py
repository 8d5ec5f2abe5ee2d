"""`presented_certificate`: names, issuer and validity of the certificate that a server presents.

Python's `ssl` describes only certificates that it has verified, so the few fields are read from the DER encoding.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from registration_persistence.clock import monotonic
from registration_persistence.light_dataclass import dataclass

if TYPE_CHECKING:
    import ssl

# The protocol's SSLRequest: its length and its code. The server answers S if it supports TLS.
_SSL_REQUEST, _SUPPORTED = struct.pack("!ii", 8, 80877103), b"S"

# The parts of a name that identify an authority: common name, organisation and unit.
_SHOWN_ATTRIBUTES = (b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b")

# A certificate may be a forgery, so its names are not trusted to be short.
_MAX_SHOWN_CHARACTERS = 120

_VERSION, _UTC_TIME = 0xA0, 0x17


@dataclass(frozen=True, slots=True)
class PresentedCertificate:
    """A certificate that was not verified.

    Args:
        subject: Name of the server, on one line.
        issuer: Name of the authority that signed it, on one line.
        is_self_issued: Whether subject and issuer are the same.
        valid_from: Start of its validity.
        expires: End of its validity.
    """

    subject: str
    issuer: str
    is_self_issued: bool
    valid_from: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Handshake:
    """The result of a TLS handshake.

    Args:
        certificate: The certificate of the server.
        protocol: The version of TLS, such as `TLSv1.3`.
    """

    certificate: PresentedCertificate
    protocol: str


class TlsRefused(OSError):
    """The server does not support TLS."""


def presented_certificate(host: str, address: str, port: int, *, seconds: float) -> PresentedCertificate | None:
    """Return the certificate of the server at *address*, or `None` if it cannot be read in time.

    It opens a connection of its own, ends it after the TLS handshake, and sends neither user nor password.

    Args:
        host: The name that the server is asked for.
        address: The IP address to connect to.
        port: The TCP port.
        seconds: The time for all of it.
    """
    import ssl  # needed in this case only

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, ValueError, IndexError, OverflowError):
        return tls_handshake(host, address, port, seconds=seconds, context=context).certificate
    return None


def tls_handshake(host: str, address: str, port: int, *, seconds: float, context: "ssl.SSLContext") -> Handshake:
    """Connect to *address*, make a TLS handshake, and close the connection.

    Args:
        host: The name that the server is asked for, and that its certificate must have if *context* checks it.
        address: The IP address to connect to.
        port: The TCP port.
        seconds: The time for all of it.
        context: The rules for the certificate.

    Raises:
        TlsRefused: The server does not support TLS.
        OSError: The server did not answer in time, or its certificate was not accepted.
        ValueError, IndexError, OverflowError: The certificate cannot be read.
    """
    end = monotonic() + seconds
    with socket.create_connection((address, port), timeout=_left(end)) as plain:
        plain.settimeout(_left(end))
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) != _SUPPORTED:
            raise TlsRefused("no TLS")
        plain.settimeout(_left(end))
        with context.wrap_socket(plain, server_hostname=host) as session:
            return Handshake(_described(session.getpeercert(binary_form=True) or b""), session.version() or "")


def _left(end: float) -> float:
    left = end - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _described(der: bytes) -> PresentedCertificate:
    _, certificate = next(_elements(der))
    _, content = next(_elements(certificate))
    fields = [element for element in _elements(content) if element[0] != _VERSION]
    # The serial number and the algorithm of the signature come first.
    (_, issuer), (_, validity), (_, subject) = fields[2:5]
    valid_from, expires = (_time(tag, text.decode("ascii")) for tag, text in _elements(validity))
    return PresentedCertificate(_name(subject), _name(issuer), issuer == subject, valid_from, expires)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of *der*, which may be the content of an outer element."""
    position = 0
    while position < len(der):
        tag, length = der[position], der[position + 1]
        position += 2
        if length & 0x80:  # the length is in the next bytes
            size = length & 0x7F
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        yield tag, der[position : position + length]
        position += length


def _name(der: bytes) -> str:
    """Return the parts of an X.500 name that identify an authority, on one line."""
    parts = []
    for _, attributes in _elements(der):
        for _, attribute in _elements(attributes):
            (_, kind), (_, value) = _elements(attribute)
            if kind in _SHOWN_ATTRIBUTES:
                parts.append(value.decode("utf-8", "replace"))
    text = ", ".join(parts) or "a name without parts"
    return "".join(each if each.isprintable() else "?" for each in text)[:_MAX_SHOWN_CHARACTERS]


def _time(tag: int, text: str) -> datetime:
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=UTC)
