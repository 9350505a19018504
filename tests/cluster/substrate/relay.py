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
COMMAND = (sys.executable, "-m", "tests.cluster.substrate.relay")


def enter(namespace: int) -> None:
    """Make the sockets of this thread in another network namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def namespace(name: str) -> int:
    return os.open("/proc/self/ns/net" if name == "-" else name, os.O_RDONLY | os.O_CLOEXEC)


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
    there, beyond = namespace(listen_in), namespace(connect_in)
    enter(there)
    listening = socket.create_server(address(listen_at))
    enter(beyond)
    print(listening.getsockname()[1], flush=True)
    asyncio.run(serve(listening, address(connect_to)))


if __name__ == "__main__":
    main(*sys.argv[1:])
