#!/usr/bin/env python3
"""The interoperability cases of gRPC: client and server of grpc-go, from Debian's source package."""

import asyncio
import os
import socket
import subprocess
import sys
import time

import suite
from bridge import Bridge

# Those that need neither an account nor several servers.
CASES = """empty_unary large_unary client_streaming server_streaming ping_pong empty_stream
    timeout_on_sleeping_server cancel_after_begin cancel_after_first_response status_code_and_message
    special_status_message custom_metadata unimplemented_method unimplemented_service""".split()
# Seconds for one case; the longest sleeps less than one.
CASE_TIME_MAX = 10


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def await_listener(port, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


async def one(command, case):
    """Why the case failed; nothing where it passed."""
    process = await asyncio.create_subprocess_exec(
        *command, "-test_case", case, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # A machine's own proxy must not help or hinder.
        env={"PATH": os.environ["PATH"], "GRPC_GO_LOG_SEVERITY_LEVEL": "error"},
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), CASE_TIME_MAX)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return f"no end within {CASE_TIME_MAX} s"
    return "" if process.returncode == 0 else said.decode(errors="replace")[-400:] or "failed"


async def run(options, folder, port):
    # The client asks a resolver for every name, so it is given an address.
    near = await Bridge(options.name, port, via=options.via).listen() if options.via else port
    command = [f"{folder}/client", "-use_tls", "-use_test_ca", "-ca_file", options.ca, "-server_host", "127.0.0.1",
               "-server_host_override", options.name, "-server_port", str(near)]
    await_listener(port)
    wrong = {case: await one(command, case) for case in options.only or CASES}
    with open(f"{folder}/version") as version:
        name = f"grpc interop (grpc-go {version.read().strip()})"
    return suite.report(name, [case for case, why in wrong.items() if not why],
                        {case: why for case, why in wrong.items() if why})


def main():
    options = suite.options("grpc", [("--programs", "the folder of `client` and `server`")])
    folder, port = options.programs, free_port()
    server = subprocess.Popen(
        [f"{folder}/server", "-use_tls", "-tls_cert_file", options.chain, "-tls_key_file", options.key,
         "-port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    try:
        return asyncio.run(run(options, folder, port))
    finally:
        server.kill()
        server.wait()


sys.exit(main())
