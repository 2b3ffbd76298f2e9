"""A MASQUE client made of aioquic: asks a gateway for streams and datagrams, prints what came.

    client.py PORT SNI TUNNEL_CA [--identity F] [--token T] fetch INTERCEPT_CA URL
    client.py PORT SNI TUNNEL_CA [--identity F] udp HOST PORT [--capsules] HEX...
    client.py PORT SNI TUNNEL_CA [--identity F] ask NAME=VALUE...

One line of JSON says how it went. Exit status 0 means that the gateway answered.
"""

import argparse
import asyncio
import json
import ssl
import sys
from urllib.parse import urlsplit

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

SECONDS_MAX = 15


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        # WebTransport is how aioquic is told to speak of datagrams.
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.streams = {}
        self.ended = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = {"code": event.error_code, "reason": event.reason_phrase}
            for queue in self.streams.values():
                queue.put_nowait(event)
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].put_nowait(event)
        for it in self.http.handle_event(event):
            if it.stream_id in self.streams:
                self.streams[it.stream_id].put_nowait(it)

    def ask(self, headers, end=False):
        stream = self._quic.get_next_available_stream_id()
        self.streams[stream] = asyncio.Queue()
        lines = [(name.encode(), value.encode()) for name, value in headers]
        self.http.send_headers(stream, lines, end_stream=end)
        self.transmit()
        return stream

    def send(self, stream, data, end=False):
        self.http.send_data(stream, data, end_stream=end)
        self.transmit()

    def datagram(self, stream, data):
        self.http.send_datagram(stream, data)
        self.transmit()

    async def next(self, stream):
        return await asyncio.wait_for(self.streams[stream].get(), SECONDS_MAX)

    async def head(self, stream):
        while True:
            event = await self.next(stream)
            if isinstance(event, HeadersReceived):
                return {name.decode(): value.decode() for name, value in event.headers}
            if isinstance(event, StreamReset):
                return {"reset": event.error_code}
            if isinstance(event, ConnectionTerminated):
                return {"closed": event.error_code, "reason": event.reason_phrase}


async def fetch(client, options):
    url = urlsplit(options.url)
    port = url.port or 443
    headers = [(":method", "CONNECT"), (":authority", f"{url.hostname}:{port}")]
    stream = client.ask(headers + options.extra)
    head = await client.head(stream)
    if head.get(":status") != "200":
        return {"connect": head}
    context = ssl.create_default_context(cafile=options.intercept_ca)
    # The tenant's CA need not have what Python would like an authority to have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=url.hostname)

    async def run(step):
        while True:
            try:
                done = step()
                client.send(stream, outgoing.read()) if outgoing.pending else None
                return done
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    client.send(stream, outgoing.read())
                event = await client.next(stream)
                if isinstance(event, DataReceived):
                    incoming.write(event.data)
                    if event.stream_ended:
                        incoming.write_eof()
                else:
                    raise ConnectionError(repr(event))

    await run(tls.do_handshake)
    issuer = dict(part[0] for part in tls.getpeercert()["issuer"]).get("organizationName")
    path = url.path or "/"
    request = f"GET {path} HTTP/1.1\r\nHost: {url.hostname}\r\nConnection: close\r\n\r\n"
    await run(lambda: tls.write(request.encode()))
    body = b""
    while True:
        try:
            piece = await run(lambda: tls.read(65536))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
            break
        if not piece:
            break
        body += piece
    head, _, body = body.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    return {"connect": {":status": "200"}, "status": status, "bytes": len(body), "issuer": issuer,
            "body": body[:200].decode(errors="replace")}


def varint(number):
    for width, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if number < 1 << (8 * width - 2):
            return (number | prefix << (8 * width - 2)).to_bytes(width, "big")
    raise ValueError(number)


async def udp(client, options):
    path = f"/.well-known/masque/udp/{options.host}/{options.port}/"
    headers = [(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"),
               (":authority", options.sni), (":path", path), ("capsule-protocol", "?1")]
    stream = client.ask(headers + options.extra)
    head = await client.head(stream)
    came, capsules = [], []
    if head.get(":status") == "200":
        for payload in map(bytes.fromhex, options.payload):
            if options.capsules:
                client.send(stream, varint(0) + varint(len(payload) + 1) + b"\0" + payload)
            else:
                client.datagram(stream, b"\0" + payload)
        while len(came) + len(capsules) < len(options.payload):
            event = await client.next(stream)
            if isinstance(event, DatagramReceived):
                came.append(event.data[1:].hex())
            elif isinstance(event, DataReceived):
                capsules.append(event.data.hex())
            else:
                break
    return {"connect": head, "datagrams": came, "capsules": capsules}


async def ask(client, options):
    headers = [tuple(it.split("=", 1)) for it in options.field]
    stream = client.ask(headers + options.extra, end=options.end)
    head = await client.head(stream)
    return {"head": head}


async def main(options):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[options.alpn],
                                      max_datagram_frame_size=65536, server_name=options.sni)
    configuration.load_verify_locations(options.tunnel_ca)
    if options.identity:
        configuration.load_cert_chain(options.identity)
    options.extra = []
    if options.token:
        options.extra.append(("proxy-authorization", f"Bearer {options.token}"))
    tickets = []
    try:
        async with connect("127.0.0.1", options.gateway, configuration=configuration,
                           create_protocol=Client,
                           session_ticket_handler=tickets.append) as client:
            outcome = await options.act(client, options)
            outcome["closed"] = client.ended
    except ConnectionError as error:
        outcome = {"failed": str(error)}
    outcome["tickets"] = len(tickets)
    print(json.dumps(outcome))
    return 0


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", type=int)
    parser.add_argument("sni")
    parser.add_argument("tunnel_ca")
    parser.add_argument("--identity")
    parser.add_argument("--token")
    parser.add_argument("--alpn", default="h3")
    acts = parser.add_subparsers(required=True)
    one = acts.add_parser("fetch")
    one.add_argument("intercept_ca")
    one.add_argument("url")
    one.set_defaults(act=fetch)
    one = acts.add_parser("udp")
    one.add_argument("host")
    one.add_argument("port", type=int)
    one.add_argument("--capsules", action="store_true")
    one.add_argument("payload", nargs="*")
    one.set_defaults(act=udp)
    one = acts.add_parser("ask")
    one.add_argument("--end", action="store_true")
    one.add_argument("field", nargs="+")
    one.set_defaults(act=ask)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
