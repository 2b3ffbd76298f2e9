"""An HTTP/3 client (aioquic). Usage: client.py CA URL METHOD [SIZE]; says what it got as JSON."""

import asyncio
import hashlib
import json
import sys
from urllib.parse import urlparse

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.http = H3Connection(self._quic)
        self.heads, self.text, self.length = [], b"", 0
        self.hash = hashlib.sha256()
        self.done = asyncio.get_running_loop().create_future()

    def end(self, how):
        if not self.done.done():
            self.done.set_result(how)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            return self.end(f"closed {event.error_code:#x} {event.reason_phrase}")
        if isinstance(event, StreamReset):
            return self.end(f"reset {event.error_code:#x}")
        for one in self.http.handle_event(event):
            if isinstance(one, HeadersReceived):
                self.heads.append({k.decode(): v.decode() for k, v in one.headers})
            elif isinstance(one, DataReceived):
                self.hash.update(one.data)
                self.length += len(one.data)
                self.text = (self.text + one.data)[:4096]
            if getattr(one, "stream_ended", False):
                self.end("whole")


async def main(ca, url, method, size="0"):
    parts, size = urlparse(url), int(size)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.load_verify_locations(ca)
    # It knows of no refusal by ICMP, and waits for so long.
    configuration.idle_timeout = 10
    async with connect(parts.hostname, parts.port, configuration=configuration,
                       create_protocol=Client) as client:
        stream = client._quic.get_next_available_stream_id()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [(b":method", method.encode()), (b":scheme", b"https"),
                (b":authority", parts.netloc.encode()), (b":path", path.encode()),
                (b"accept", b"text/html")]
        sent = hashlib.sha256()
        client.http.send_headers(stream, head, end_stream=size == 0)
        for at in range(0, size, 65536):
            piece = bytes((at + i) * 31 % 251 for i in range(min(65536, size - at)))
            sent.update(piece)
            client.http.send_data(stream, piece, end_stream=at + len(piece) == size)
        client.transmit()
        how = await asyncio.wait_for(client.done, 60)
        print(json.dumps({
            "how": how, "heads": client.heads, "length": client.length, "sha256": client.hash.hexdigest(),
            "text": client.text.decode(errors="replace"), "sent": sent.hexdigest()}))


try:
    asyncio.run(main(*sys.argv[1:]))
except (ConnectionError, asyncio.TimeoutError) as error:
    print(json.dumps({"how": f"failed: {error!r}"}))
