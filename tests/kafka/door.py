"""What stands before a Kafka broker that is spoken to in the clear: TLS by OpenSSL, SASL by scramp.

The broker behind can neither refuse a wrong password nor ask for certificates. This one does, as
Kafka's own listener would: versions may be asked for at once, everything else only once the user is
known; then the bytes go both ways untouched. Settings are one JSON object, the only argument:

    port, broker                 where to listen on 127.0.0.1, and the broker's port
    cert, key                    PEM files of the server
    client_ca                    PEM file; with it, a client has to show a certificate
    mechanism, user, password    with them, a client has to be this user
"""

import json
import select
import socket
import socketserver
import ssl
import struct
import sys

from scramp import ScramException, ScramMechanism

SETTINGS = json.loads(sys.argv[1])
# API keys and errors of Kafka's protocol.
SASL_HANDSHAKE, VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
UNSUPPORTED_MECHANISM, AUTHENTICATION_FAILED = 33, 58
# From this version on a request has tagged fields and compact strings (KIP-482).
FLEXIBLE_AUTHENTICATE = 2


class Refused(Exception):
    pass


class Plain:
    """RFC 4616: identity to act as, user and password, between zeros."""

    done = False

    def step(self, said):
        act_as, user, password = said.split(b"\0")
        wanted = (SETTINGS["user"].encode(), SETTINGS["password"].encode())
        if act_as not in (b"", user) or (user, password) != wanted:
            raise Refused("wrong user or password")
        self.done = True
        return b""


class Scram:
    """RFC 5802, from the server's side."""

    def __init__(self, name):
        mechanism = ScramMechanism(name)
        known = mechanism.make_auth_info(SETTINGS["password"], iteration_count=4096)

        def look_up(user):
            if user != SETTINGS["user"]:
                raise Refused("no such user")
            return known

        self.server = mechanism.make_server(look_up)
        self.first = True
        self.done = False

    def step(self, said):
        try:
            if self.first:
                self.first = False
                self.server.set_client_first(said.decode())
                return self.server.get_server_first().encode()
            self.server.set_client_final(said.decode())
        except ScramException as error:
            raise Refused(str(error)) from error
        self.done = True
        return self.server.get_server_final().encode()


def exactly(connection, length):
    content = b""
    while len(content) < length:
        content += (more := connection.recv(length - len(content)))
        if not more:
            raise EOFError
    return content


def frame(connection):
    (length,) = struct.unpack(">i", exactly(connection, 4))
    return exactly(connection, length)


def framed(content):
    return struct.pack(">i", len(content)) + content


def text(at, body):
    """A string (or bytes with a length of four) and what follows it."""
    (length,) = struct.unpack_from(">h", body, at)
    at += 2
    return (b"", at) if length < 0 else (body[at : at + length], at + length)


def varint(at, body):
    value = shift = 0
    while True:
        value |= (body[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if body[at - 1] < 0x80:
            return value, at


def compact(content):
    """Bytes after their length and one, as a varint."""
    length, head = len(content) + 1, bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + content


def authentication(version, at, body):
    if version < FLEXIBLE_AUTHENTICATE:
        (length,) = struct.unpack_from(">i", body, at)
        return body[at + 4 : at + 4 + length]
    tags, at = varint(at, body)
    assert tags == 0, "no tagged fields are known"
    length, at = varint(at, body)
    return body[at : at + length - 1]


def answer(version, correlation, code, why, said):
    head = struct.pack(">i", correlation)
    lifetime = struct.pack(">q", 0)
    if version >= FLEXIBLE_AUTHENTICATE:
        content = struct.pack(">h", code) + compact(why.encode()) + compact(said)
        return framed(head + b"\0" + content + lifetime + b"\0")
    why = struct.pack(">h", len(why)) + why.encode()
    content = struct.pack(">h", code) + why + struct.pack(">i", len(said)) + said
    return framed(head + content + (lifetime if version == 1 else b""))


def authenticate(client, broker):
    """Returns once the user is known; raises where it is not."""
    session = None
    while session is None or not session.done:
        body = frame(client)
        key, version, correlation = struct.unpack_from(">hhi", body)
        _, at = text(8, body)
        if key == VERSIONS:
            broker.sendall(framed(body))
            client.sendall(framed(frame(broker)))
        elif key == SASL_HANDSHAKE:
            mechanism = SETTINGS["mechanism"]
            asked = text(at, body)[0].decode()
            code = 0 if asked == mechanism else UNSUPPORTED_MECHANISM
            name = mechanism.encode()
            client.sendall(framed(struct.pack(">ihih", correlation, code, 1, len(name)) + name))
            if code:
                raise Refused(f"no {asked} here")
            session = Plain() if mechanism == "PLAIN" else Scram(mechanism)
        elif key == SASL_AUTHENTICATE and session is not None:
            try:
                said = session.step(authentication(version, at, body))
            except Refused as why:
                client.sendall(answer(version, correlation, AUTHENTICATION_FAILED, str(why), b""))
                raise
            client.sendall(answer(version, correlation, 0, "", said))
        else:
            raise Refused(f"request {key} before the user is known")


def pour(client, broker):
    """What either says goes to the other, until one hangs up."""
    other = {client: broker, broker: client}
    while True:
        # What is decrypted already makes no socket readable.
        ready = [client] if client.pending() else select.select(list(other), [], [])[0]
        for one in ready:
            chunk = one.recv(65536)
            if not chunk:
                return
            other[one].sendall(chunk)


class Visitor(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            with (
                CONTEXT.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", SETTINGS["broker"])) as broker,
            ):
                if "mechanism" in SETTINGS:
                    authenticate(client, broker)
                pour(client, broker)
        except (Refused, OSError, EOFError):
            pass  # The client has been told, or has gone.


class Door(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CONTEXT.load_cert_chain(SETTINGS["cert"], SETTINGS["key"])
if "client_ca" in SETTINGS:
    CONTEXT.verify_mode = ssl.CERT_REQUIRED
    CONTEXT.load_verify_locations(SETTINGS["client_ca"])
Door(("127.0.0.1", SETTINGS["port"]), Visitor).serve_forever()
