"""Start the server."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from slmlp.runtime.errors import SlmlpError
from slmlp.serving.found import find


def serve(
    folder: Path, host: str, port: int, token: str | None, started: Callable[[str], None] = lambda address: None
) -> None:
    """Serve a folder's studies and runs until Ctrl-C.

    Args:
        folder: of studies and runs.
        host: the address to listen on; any but those of this machine alone needs a token.
        port: 0 takes a free one.
        token: what a browser must know; drawn where one is needed and none is given.
        started: called with the address to open.

    Raises:
        SlmlpError: a folder without study or run, an address or port that cannot be had, a library that is missing.
    """
    find(folder)
    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise SlmlpError(f"slmlp serve needs {module}: pip install 'slmlp[serve]'")
    import uvicorn

    from slmlp.serving.app import LOOPBACK, application

    alone = _is_loopback(host)
    if not alone and token is None:
        token = secrets.token_urlsafe(24)
    listening = _listen(host, port)
    bound, number = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    everywhere = ipaddress.ip_address(bound).is_unspecified  # which is no address to open
    address = f"http://{socket.gethostname() if everywhere else shown}:{number}/"
    app = application(folder, LOOPBACK if alone else None, token)
    config = uvicorn.Config(app, log_level="warning", server_header=False, lifespan="off", ws="none")
    started(address + (f"?token={token}" if token else ""))
    with contextlib.suppress(KeyboardInterrupt):  # its usual end
        uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise SlmlpError(f"--port must be 0 to 65535, found {port}; give another --port (0 takes a free one)")
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)  # from here on who asks waits, and is not refused
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or error
        raise SlmlpError(
            f"cannot listen on {host}, port {port}: {reason}; give another --port (0 takes a free one) or --host"
        ) from error
    return listening
