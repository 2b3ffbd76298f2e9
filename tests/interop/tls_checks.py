#!/usr/bin/env python3
"""sslyze against Mozilla's recommendations: the tunnel's TLS, and what clients see intercepted."""

import asyncio
import ssl
import sys

import suite


async def main():
    options = suite.options("tls", [
        ("--tunnel", "PORT of the tunnel, to look at it and not through it"),
        ("--certificate", "the client's certificate"),
        ("--config", "modern, intermediate or old; default intermediate"),
    ])
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(options.chain, options.key)
    inside.set_alpn_protocols(["http/1.1"])
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=inside)
    port = options.tunnel or server.sockets[0].getsockname()[1]
    level = options.config or "intermediate"
    command = [sys.executable, "-m", "sslyze", f"--mozilla_config={level}", f"--certinfo_ca_file={options.ca}"]
    if options.via:
        command += [f"--https_tunnel={options.via}", f"{options.name}:{port}"]
    else:
        command += [f"{options.name}:{port}{{127.0.0.1}}"]
    if options.certificate:
        command += [f"--cert={options.certificate}", f"--key={options.certificate}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    said = (await process.communicate())[0].decode(errors="replace")
    lines = said.split("COMPLIANCE AGAINST")[-1].splitlines()
    wrong = {f"finding {number}": line.strip() for number, line in enumerate(lines) if line.strip().startswith("*")}
    if process.returncode != 0 and not wrong:
        wrong = {"sslyze": said[-600:]}
    return suite.report(f"sslyze {suite.version('sslyze')}, {level}", [] if wrong else ["compliant"], wrong)


sys.exit(asyncio.run(main()))
