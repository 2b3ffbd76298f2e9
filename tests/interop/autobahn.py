#!/usr/bin/env python3
"""Autobahn's WebSocket cases, by the runner `kosoku`, against an echo server behind TLS.

The fuzzing client speaks plain TCP to a bridge, which carries it through the proxy.
"""

import asyncio
import contextlib
import ssl
import sys

import kosoku
import websockets

import suite
from bridge import Bridge

# The largest message of the suite is 16 MiB.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# Cases at once: more than one hides the waits, many would measure this machine.
AT_ONCE = 4


async def echo(peer):
    # Most cases end the connection by a violation, which is no news.
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in peer:
            await peer.send(message)


async def main():
    options = suite.options("autobahn")
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(options.chain, options.key)
    server = await websockets.serve(
        echo, "127.0.0.1", 0, ssl=inside, max_size=MESSAGE_BYTES_MAX, ping_interval=None
    )
    port = server.sockets[0].getsockname()[1]
    bridge = Bridge(options.name, port, options.ca, options.via, host=True)
    near = await bridge.listen()
    try:
        results = await kosoku.run_fuzzingclient(
            f"ws://127.0.0.1:{near}", options.only, options.without, concurrency=AT_ONCE
        )
    except kosoku.FailureError as failure:
        results = failure.results
    name = f"autobahn (kosoku {suite.version('kosoku')}, websockets {suite.version('websockets')})"
    failed = {
        one.case_id: f"{one.behavior.value}, close {one.behavior_close.value}: {one.result}"
        for one in results
        if not one.passed
    }
    return suite.report(name, [one.case_id for one in results if one.passed], failed)


sys.exit(asyncio.run(main()))
