"""Carries TCP connections through a proxy's CONNECT, as they are or into TLS.

Suites that know neither proxies nor CAs of our own are pointed at it.
"""

import asyncio
import base64
import contextlib
import re
import socket
import ssl
import sys
import urllib.parse

# Read at a time, bytes.
PIECE = 65536


class Bridge:
    """Where connections go: `name` is what TLS asks for, `via` a proxy's URL or None. Without a `ca`
    the client has TLS of its own, and what it sends passes as it is."""

    def __init__(self, name, port, ca=None, via=None, alpn=("http/1.1",), certificate=None, host=False):
        # `host`: the first head gets the destination's name, which its client does not know.
        self.name, self.port, self.via, self.host = name, port, via, host
        self.tls = {}
        if ca:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(list(alpn))
            if certificate:
                context.load_cert_chain(certificate)
            self.tls = dict(ssl=context, server_hostname=name)

    async def listen(self):
        """Starts listening on a free port of 127.0.0.1, and gives it."""
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def open(self):
        """One connection to the destination."""
        if self.via is None:
            return await asyncio.open_connection("127.0.0.1", self.port, **self.tls)
        stream = await connect(self.via, f"{self.name}:{self.port}")
        return await asyncio.open_connection(sock=stream, **self.tls)

    async def accept(self, reader, writer):
        try:
            far_reader, far_writer = await self.open()
        except (OSError, ssl.SSLError) as error:
            print(f"bridge: {error!r}", file=sys.stderr)
            return writer.close()
        if self.host:
            with contextlib.suppress(asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                authority = f"\r\nHost: {self.name}:{self.port}".encode()
                far_writer.write(re.sub(rb"(?i)\r\nhost:[^\r]*", authority, head, count=1))
        # TLS of asyncio has no half-close: the end of one side ends both.
        both = [asyncio.create_task(copy(*pair)) for pair in ((reader, far_writer), (far_reader, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The suite is over.
            pass
        for task in both:
            task.cancel()
        for end in (writer, far_writer):
            end.close()


async def connect(via, authority):
    """A socket on which the proxy `via` has answered CONNECT."""
    proxy = urllib.parse.urlsplit(via)
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.username:
        login = ":".join(urllib.parse.unquote(part or "") for part in (proxy.username, proxy.password))
        head += f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
    loop = asyncio.get_running_loop()
    stream = socket.socket()
    stream.setblocking(False)
    await loop.sock_connect(stream, (proxy.hostname, proxy.port))
    await loop.sock_sendall(stream, head.encode() + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        # One at a time: what follows the head belongs to TLS.
        byte = await loop.sock_recv(stream, 1)
        if not byte:
            break
        answer += byte
    if b" 200 " not in answer.split(b"\r\n")[0]:
        stream.close()
        raise ConnectionError(answer.decode(errors="replace"))
    return stream


async def copy(reader, writer):
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
