"""A QUIC client whose packets are made by hand once aioquic has shaken hands: to break the rules, or to see what no
library shows.

    hostile.py PORT SNI TUNNEL_CA IDENTITY ATTACK [--packets N] [--rate PACKETS_PER_S] [--burst PACKETS]

One line of JSON says what came of it: how the gateway closed the connection, if it did, what was sent and received,
and whether the connection still answers. Exit status 0 means that the handshake was done.
"""

import argparse
import json
import select
import socket
import struct
import sys
import time

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated

SECONDS_MAX = 20
# The option that cuts what is sent into datagrams (linux/udp.h), and most that may be cut.
UDP_SEGMENT = 103
JOINED = 45
# The mark of a packet whose sender understands congestion marks (RFC 3168).
ECT_0 = b"\x02"
# What fits into a datagram of 1,200 bytes beside header, number and tag.
ROOM = 1_150
VERSION_1 = 1


def varint(number):
    for width, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if number < 1 << (8 * width - 2):
            return (number | prefix << (8 * width - 2)).to_bytes(width, "big")
    raise ValueError(number)


def fill(frame):
    return frame * (ROOM // len(frame))


def stream(number, offset, data):
    return b"\x0e" + varint(number) + varint(offset) + varint(len(data)) + data


def crypto(offset, data):
    return b"\x06" + varint(offset) + varint(len(data)) + data


def new_id(sequence, retire):
    return (b"\x18" + varint(sequence) + varint(retire) + b"\x08" + sequence.to_bytes(8, "big")
            + b"t" * 16)


def gaps(first, count, number=0):
    """Every other byte of a stream."""
    return b"".join(stream(number, 2 * at, b"x") for at in range(first, first + count))


class Peer:
    """aioquic shakes hands; from then on every packet is made, and read, by hand."""

    def __init__(self, options):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"],
                                          server_name=options.sni)
        configuration.load_verify_locations(options.tunnel_ca)
        configuration.load_cert_chain(options.identity)
        self.to = ("127.0.0.1", options.gateway)
        self.quic = QuicConnection(configuration=configuration)
        self.sockets = [self.socket()]
        # Bytes of the packets by hand, what came to this address, and what to the others.
        self.sent, self.received, self.elsewhere = 0, 0, 0
        self.closed, self.acknowledged, self.expected = None, -1, 0
        self.ready = self.by_hand = False
        # Packets that came as capable of ECN, and packets of ours whose marks were told of.
        self.marked, self.echoed = 0, 0

    def socket(self, address="127.0.0.1"):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ECT_0[0])
        made.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        made.bind((address, 0))
        made.setblocking(False)
        return made

    def handshake(self):
        self.quic.connect(self.to, time.time())
        until = time.time() + SECONDS_MAX
        while self.closed is None and time.time() < until:
            for data, _ in self.quic.datagrams_to_send(time.time()):
                self.sockets[0].sendto(data, self.to)
            self.take(0.05)
            self.ready = self.quic._handshake_confirmed and bool(self.quic._peer_cid_available)
            if self.ready:
                break
        self.by_hand, self.number = True, self.quic._packet_number + 1
        self.own, self.theirs = self.quic.host_cid, self.quic._peer_cid.cid
        self.ids = {one.sequence_number: one.cid for one in self.quic._peer_cid_available}
        given = [self.quic._peer_cid, *self.quic._peer_cid_available]
        self.resets = {one.stateless_reset_token for one in given}
        self.keys = self.quic._cryptos[tls.Epoch.ONE_RTT]
        return self.ready

    def take(self, wait):
        """Takes in what has come, after waiting so long at most."""
        readable, _, _ = select.select(self.sockets, [], [], max(0, wait))
        for one in readable:
            while True:
                try:
                    data, marks, _, _ = one.recvmsg(65_536, 64)
                except BlockingIOError:
                    break
                self.marked += any(mark[-1][:1] == ECT_0 for mark in marks)
                if one is not self.sockets[0]:
                    self.elsewhere += len(data)
                elif self.by_hand:
                    self.received += len(data)
                    self.read(data)
                else:
                    self.quic.receive_datagram(data, self.to, time.time())
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, ConnectionTerminated):
                self.closed = {"code": event.error_code, "reason": event.reason_phrase}

    def read(self, data):
        """Reads what is acknowledged and why the connection is closed."""
        if data[0] & 0x80:
            return
        # Ids of ours have all the same length.
        if data[-16:] in self.resets:
            # It may come with the close that it follows: that says why.
            self.closed = self.closed or {"code": None, "reason": "reset"}
            return
        opened = self.keys.decrypt_packet(data, 1 + len(self.own), self.expected)
        self.expected = max(self.expected, opened[2] + 1)
        acknowledged, echoed, closed = told(opened[1])
        self.echoed = max(self.echoed, echoed)
        self.acknowledged = max(self.acknowledged, acknowledged)
        self.closed = self.closed or closed

    def packet(self, frames):
        """A packet with these frames."""
        frames += bytes(max(0, 16 - len(frames)))
        number, self.number = self.number, self.number + 1
        first = 0x43 | self.keys.send.key_phase << 2
        header = bytes([first]) + self.theirs + number.to_bytes(4, "big")
        packet = self.keys.send.encrypt_packet(header, frames, number)
        self.sent += len(packet)
        return packet

    def raw(self, frames, by=None):
        """Sends a packet with these frames; its number."""
        (by or self.sockets[0]).sendto(self.packet(frames), self.to)
        return self.number - 1

    def joined(self, packets):
        """Sends packets of one size in one piece, which the kernel gives on as such."""
        size = struct.pack("H", len(packets[0]))
        self.sockets[0].sendmsg([b"".join(packets)], [(socket.SOL_UDP, UDP_SEGMENT, size)], 0,
                                self.to)

    def flood(self, options, frames, by=lambda _: None):
        """Sends packet after packet until all are sent or the connection is closed."""
        begun = time.time()
        for number in range(options.packets):
            self.raw(frames(number), by(number))
            if number % options.burst == options.burst - 1:
                self.wait(begun + number / options.rate)
            if self.closed:
                return
        self.wait(time.time() + 0.3)

    def wait(self, until):
        """Takes in what comes, once at least."""
        self.take(until - time.time())
        while self.closed is None and time.time() < until:
            self.take(until - time.time())

    def answers(self):
        """Whether the connection goes on."""
        until = time.time() + SECONDS_MAX
        while self.closed is None and time.time() < until:
            number, patience = self.raw(b"\x01"), time.time() + 0.2
            while self.closed is None and time.time() < patience:
                self.take(0.05)
                if self.acknowledged >= number:
                    return True
        return False


def read_varint(data, at):
    width = 1 << (data[at] >> 6)
    mask = (1 << 8 * width - 2) - 1
    return int.from_bytes(data[at:at + width], "big") & mask, at + width


def told(payload):
    """The largest number acknowledged by a packet, how many came marked, and how it closes the connection."""
    acknowledged, echoed, at = -1, 0, 0
    while at < len(payload):
        kind, at = payload[at], at + 1
        if kind in (0, 1, 0x1e, 0x1f):
            continue
        if kind in (2, 3):
            acknowledged, at = read_varint(payload, at)
            _, at = read_varint(payload, at)
            ranges, at = read_varint(payload, at)
            for _ in range(1 + 2 * ranges):
                _, at = read_varint(payload, at)
            if kind == 3:
                echoed, at = read_varint(payload, at)
                _, at = read_varint(payload, at)
                _, at = read_varint(payload, at)
            continue
        if kind not in (0x1c, 0x1d):
            break
        code, at = read_varint(payload, at)
        if kind == 0x1c:
            _, at = read_varint(payload, at)
        length, at = read_varint(payload, at)
        reason = payload[at:at + length].decode(errors="replace")
        return acknowledged, echoed, {"code": code, "reason": reason}
    return acknowledged, echoed, None


def move_to_the_last_id(peer):
    """Packets go to the last id that the gateway has given, so that the others may be given back."""
    kept = max(peer.ids)
    peer.theirs = peer.ids[kept]
    return kept


def retire_unseen(peer, options):
    """Ids that the gateway has made, but never sent: it is not told that anything arrived."""
    kept = move_to_the_last_id(peer)
    peer.flood(options, lambda number: b"\x19" + varint(number + (number >= kept)))


def retire_again(peer, options):
    move_to_the_last_id(peer)
    peer.flood(options, lambda _: fill(b"\x19\0"))


def retire_unissued(peer, options):
    peer.flood(options, lambda _: b"\x19" + varint(1_000))


def new_ids(peer, options):
    """Each new id retires all before it; what the gateway answers is never acknowledged."""
    peer.flood(options, lambda number: b"".join(
        new_id(one, one) for one in range(20 * number + 100, 20 * number + 120)))


def too_many_ids(peer, options):
    peer.flood(options, lambda _: b"".join(new_id(one, 0) for one in range(1, 20)))


def challenges(peer, options):
    peer.flood(options, lambda number: fill(b"\x1a" + number.to_bytes(8, "big")))


def one_stream_in_gaps(peer, options):
    peer.flood(options, lambda number: gaps(200 * number, 200))


def streams_in_gaps(peer, options):
    """Below what closes the connection, on each stream that may be opened, again and again."""
    peer.flood(options, lambda number: gaps(
        (1 + 180 * (number // 16)) % 900, 180, 4 * (number % 16)))


def gaps_in_large_pieces(peer, options):
    """One byte of a stream in each piece of 64 KiB that the gateway reads at once; the rest is padding."""
    begun = time.time()
    for number in range(options.packets):
        some = stream(4 * (number % 16), 2 + 2 * (number // 16), b"x")
        peer.joined([peer.packet(one + bytes(1_380 - len(one)))
                     for one in (some, *[b"\x01"] * (JOINED - 1))])
        peer.wait(begun + number / options.rate)
        if peer.closed:
            break


def streams_beyond_the_limit(peer, options):
    peer.flood(options, lambda _: stream(4 * 100_000, 0, b"x"))


def data_beyond_the_window(peer, options):
    peer.flood(options, lambda _: stream(0, 1 << 30, b"x"))


def crypto_beyond_the_buffer(peer, options):
    peer.flood(options, lambda _: crypto(1 << 20, b"x"))


def crypto_in_gaps(peer, options):
    peer.flood(options, lambda number: b"".join(
        crypto(1 + 2 * at, b"x") for at in range(200 * number, 200 * number + 200)))


def acknowledged_unsent(peer, options):
    """ACK of a packet far ahead."""
    peer.flood(options, lambda _: b"\x02" + varint(1_000_000) + b"\0\0\0")


def acknowledged_everything(peer, options):
    """ACK of everything up to each number in turn, as who would have the gateway send faster."""
    peer.flood(options, lambda number: b"\x02" + varint(number) + b"\0\0" + varint(number)
               + b"\x01")


def frames_unknown(peer, options):
    peer.flood(options, lambda _: varint(0x2f2f))


def addresses(peer, options):
    """Each packet comes from another of these sockets."""
    peer.sockets += [peer.socket(f"127.0.0.{1 + number % 8}") for number in range(200)]
    peer.flood(options, lambda _: b"\x01", lambda number: peer.sockets[1 + number % 200])


def updates(peer, options):
    """New keys as often as that is allowed: once a packet of the last ones has been acknowledged."""
    for _ in range(options.packets):
        peer.keys.update_key()
        if not peer.answers():
            break


def marks(peer, options):
    peer.flood(options, lambda _: b"\x01")


def initial(options, frames):
    """Initial packets with these frames, by somebody without a connection."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(1)
    peer.connect(("127.0.0.1", options.gateway))
    to, own = b"gateways", b"hostiles"
    keys = CryptoPair()
    keys.setup_initial(to, is_client=True, version=VERSION_1)
    for number, some in enumerate(frames):
        some += bytes(1_162 - len(some))
        length = (0x4000 | len(some) + 4 + 16).to_bytes(2, "big")
        header = (b"\xc3" + VERSION_1.to_bytes(4, "big") + b"\x08" + to + b"\x08" + own + b"\0"
                  + length + number.to_bytes(4, "big"))
        peer.send(keys.encrypt_packet(header, some, number))
    closed, received = None, 0
    try:
        while closed is None:
            data = peer.recv(65_536)
            received += len(data)
            if data[0] & 0xf0 != 0xc0:
                continue
            # Two ids, of which only ours has a known length, and no token.
            length, at = read_varint(data, 8 + len(own) + data[6 + len(own)])
            _, payload, _, _ = keys.recv.decrypt_packet(data[:at + length], at, 0)
            _, _, closed = told(payload)
    except TimeoutError:
        pass
    return {"closed": closed, "received": received, "alive": False}


STRANGERS = {
    "initial_crypto_beyond_the_buffer": lambda: [crypto(1 << 16, b"x")],
    "initial_crypto_in_gaps": lambda: [
        b"".join(crypto(1 + 2 * at, b"x") for at in range(200 * number, 200 * number + 200))
        for number in range(20)],
}
ATTACKS = {act.__name__: act for act in (
    retire_unseen, retire_again, retire_unissued, new_ids, too_many_ids, challenges,
    one_stream_in_gaps, streams_in_gaps, gaps_in_large_pieces,
    streams_beyond_the_limit, data_beyond_the_window, crypto_beyond_the_buffer, crypto_in_gaps,
    acknowledged_unsent, acknowledged_everything, frames_unknown, addresses,
    updates, marks)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", type=int)
    parser.add_argument("sni")
    parser.add_argument("tunnel_ca")
    parser.add_argument("identity")
    parser.add_argument("attack", choices=[*ATTACKS, *STRANGERS])
    parser.add_argument("--packets", type=int, default=1)
    parser.add_argument("--rate", type=float, default=5_000)
    parser.add_argument("--burst", type=int, default=8)
    options = parser.parse_args()
    if options.attack in STRANGERS:
        print(json.dumps(initial(options, STRANGERS[options.attack]())))
        return 0
    peer = Peer(options)
    if not peer.handshake():
        print(json.dumps({"handshake": peer.closed}))
        return 1
    ATTACKS[options.attack](peer, options)
    alive = peer.answers()
    print(json.dumps({"closed": peer.closed, "sent": peer.sent, "received": peer.received,
                      "elsewhere": peer.elsewhere, "marked": peer.marked,
                      "echoed": peer.echoed, "alive": alive}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
