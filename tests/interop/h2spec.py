#!/usr/bin/env python3
"""h2spec against what a client speaks HTTP/2 with: inside an intercepted connection, or the tunnel itself.

h2spec knows neither proxies nor client certificates, so it speaks plain HTTP/2 to a bridge.
"""

import asyncio
import os
import re
import sys

import suite
from bridge import Bridge

# Seconds that h2spec waits for what a case wants.
CASE_TIME = 3


async def origin(options):
    """A small HTTP/2 origin behind TLS: each request gets 200 and a few bytes."""
    import ssl

    import h2.config
    import h2.connection
    import h2.events

    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(options.chain, options.key)
    inside.set_alpn_protocols(["h2"])

    async def serve(reader, writer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if isinstance(event, h2.events.StreamEnded):
                        connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "5")])
                        connection.send_data(event.stream_id, b"hello", end_stream=True)
                writer.write(connection.data_to_send())
                await writer.drain()
        except Exception as error:
            # A connection that a case has broken is the case's business.
            print(f"origin: {error!r}", file=sys.stderr)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=inside)
    return server.sockets[0].getsockname()[1]


async def main():
    options = suite.options("h2spec", [
        ("--tunnel", "PORT of the tunnel, to speak to it and not through it"),
        ("--certificate", "PEM of the client's certificate and key, for the tunnel"),
    ])
    if options.tunnel:
        bridge = Bridge(options.name, int(options.tunnel), options.ca, None, ["h2"], options.certificate)
    else:
        bridge = Bridge(options.name, await origin(options), options.ca, options.via, ["h2"])
    near = await bridge.listen()
    process = await asyncio.create_subprocess_exec(
        os.environ["H2SPEC"], "--host", "127.0.0.1", "--port", str(near), "--timeout", str(CASE_TIME),
        "--max-header-length", "4000", *(options.only or []), stdout=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[0].decode(errors="replace")
    said = re.sub(r"\x1b\[[0-9;]*m", "", said)
    count = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", said)
    listed = re.findall(r"^\s*× (\d+: .*?)\n\s*-> (.*?)$", said.split("Failures:")[-1], re.M)
    failed = dict(listed)
    if len(failed) != int(count[4]):
        # Cases of two chapters may bear one name.
        failed = {f"failure {number}, {name}": why for number, (name, why) in enumerate(listed)}
    if len(failed) != int(count[4]) or int(count[3]):
        raise SystemExit(f"not understood:\n{said}")
    return suite.report("h2spec", [f"case {number}" for number in range(int(count[2]))], failed)


sys.exit(asyncio.run(main()))
