"""Free TCP ports on loopback."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections (ip_local_port_range, from 32768), so that
# none of those can take a port between its choice and its use, or while a killed engine is away from it.
_CHOICE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def listen(port: int) -> socket.socket | None:
    """Take a port for good, and return the socket that a server can inherit; None where the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        return None
    return listener


def choose(*, taken: set[int]) -> int:
    """Pick a free port at random that is not among those taken."""
    return next(port for port in random.sample(_CHOICE, len(_CHOICE)) if port not in taken and is_free(port))
