"""Connections from one network namespace to another, on the same machine.

`relay LISTEN-NAMESPACE ADDRESS:PORT CONNECT-NAMESPACE ADDRESS:PORT`, where `-` is the namespace
that it is started in. Says on which port it listens. A socket stays where it was made, so one
process can have both ends.
"""

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress

CLONE_NEWNET = 0x40000000
CHUNK = 65536
HERE = "/proc/self/ns/net"
COMMAND = (sys.executable, "-m", "tests.cluster.substrate.relay")


def enter(namespace: int) -> None:
    """Make the sockets of this thread in another network namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def serve(listening: socket.socket, to: tuple[str, int]) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*to)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        writer.close()
        far_writer.close()

    async with await asyncio.start_server(connected, sock=listening) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side is done; the other may still have something to say."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        return
    writer.transport.abort()


def main(listen_in: str, listen_at: str, connect_in: str, connect_to: str) -> None:
    home = os.open(HERE, os.O_RDONLY)
    if listen_in != "-":
        enter(os.open(listen_in, os.O_RDONLY))
    listening = socket.create_server(address(listen_at))
    if connect_in != listen_in:
        enter(home if connect_in == "-" else os.open(connect_in, os.O_RDONLY))
    print(listening.getsockname()[1], flush=True)
    asyncio.run(serve(listening, address(connect_to)))


if __name__ == "__main__":
    main(*sys.argv[1:])
