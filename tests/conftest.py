"""Tests reach this machine only: anything but loopback raises, in the test process itself."""

import ipaddress
import socket
import sys

import pytest


def is_loopback(host) -> bool:
    """Whether a host given to a socket call stays on this machine; names other than localhost do not."""
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _refuse_network(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
        # A wildcard is what servers bind to; nothing is sent to it.
        if not is_loopback(host) and host not in ("0.0.0.0", "::"):
            raise OSError(f"tests may not look up {host!r}: only loopback is open")
    elif event in ("socket.connect", "socket.sendto"):
        connection, address = arguments
        if connection.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            raise OSError(f"tests may not reach {address[0]}:{address[1]}: only loopback is open")


sys.addaudithook(_refuse_network)


@pytest.fixture(autouse=True)
def _log_of_its_own():
    """A command that a test ran in this process leaves its log behind, on a stream that is closed by then."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()
