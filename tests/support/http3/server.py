"""An HTTP/3 origin (aioquic): says hello, counts what is sent to it."""

import asyncio
import hashlib
import sys

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated


class Origin(QuicConnectionProtocol):
    http = None

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.streams = {}

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is None:
            return
        for one in self.http.handle_event(event):
            if isinstance(one, HeadersReceived):
                self.streams[one.stream_id] = (dict(one.headers), hashlib.sha256())
            elif isinstance(one, DataReceived):
                self.streams[one.stream_id][1].update(one.data)
            if getattr(one, "stream_ended", False):
                self.answer(one.stream_id)

    def answer(self, stream):
        head, body = self.streams.pop(stream)
        text = b"http3 origin %s %s %s" % (
            head[b":authority"], head[b":path"], body.hexdigest().encode())
        self.http.send_headers(stream, [(b":status", b"200"), (b"content-type", b"text/plain")])
        self.http.send_data(stream, text, end_stream=True)
        self.transmit()


async def main(address, port, certificate, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    await serve(address, int(port), configuration=configuration, create_protocol=Origin)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
