"""A stand-in's server on loopback: HTTP and WebSockets on a port of its own."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette


@asynccontextmanager
async def serving(app: Starlette, *, sockets: bool = False) -> AsyncIterator[str]:
    """Serve while inside; gives the address, `http://127.0.0.1:port`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    ws = "websockets-sansio" if sockets else "none"
    # The platform pings in its own way, if it does.
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws=ws, ws_ping_interval=None)
    config.load()
    # Begun and ended by hand: the server's own loop would cost a tenth of a second to leave.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[listener])
