#!/usr/bin/env python3
"""The control messages, written a second time, after docs/control-protocol.md alone.

Prints what control.txt holds, which the tests compare with what the crate makes and reads:

    python3 control.py > control.txt
"""

import hmac
import struct

SECRETS = {1: bytes(range(32)), 2: bytes(range(100, 132))}
SESSION = bytes.fromhex("6a756d70676174652073657373696f6e")
# IPv4 as ::ffff:a.b.c.d, then the port.
V4 = bytes(10) + bytes.fromhex("ffff c0000201") + struct.pack(">H", 51820)
V6 = bytes.fromhex("20010db8000000000000000000000007") + struct.pack(">H", 443)
NOW = 1_700_000_000_000

REATTACH, QUERY, DETACH, CLOSE = 1, 2, 3, 4
CHALLENGE, ACK, REJECT, STATE, PENDING = 0x81, 0x82, 0x83, 0x84, 0x85
BOUND, HAS_ACCEPTED = 1, 2
STALE_VERSION, STORE_UNAVAILABLE = 3, 25


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


def expand(secret, info):
    """HKDF (RFC 5869), one block of output."""
    extracted = mac(b"jumpgate control 1", SECRETS[secret])
    return mac(extracted, info, b"\x01")


def key(label, secret, generation):
    return expand(secret, label.ljust(8, b"\0") + SESSION + struct.pack(">I", generation))


def cookie(secret, transport, issued=NOW):
    tag = mac(expand(secret, b"cookie\0\0"), transport, struct.pack(">Q", issued))
    return struct.pack(">Q", issued) + tag[:16]


def request(kind, version, nonce, secret=1, generation=0, given=bytes(24)):
    head = struct.pack(">BBH16s", 0x13, 0, 0, SESSION)
    body = struct.pack(">BBHIQQ24s4x", 1, kind, secret, generation, version, nonce, given)
    return head + body + mac(key(b"request", secret, generation), head + body)[:16]


def answer(kind, to, epoch=0, version=0, reason=0, generation=0, content=bytes(24)):
    secret, used = struct.unpack(">HI", to[22:28])
    (nonce,) = struct.unpack(">Q", to[36:44])
    head = struct.pack(">BBH16sIQ", 0x13, 1, 0, SESSION, epoch, version)
    body = struct.pack(">BBHIQ24s", 1, kind, reason, generation, nonce, content)
    return head + body + mac(key(b"answer", secret, used), head + body, to[72:])[:16]


def rest(flags, accepted=(0, 0)):
    return struct.pack(">QQB7x", *accepted, flags)


def main():
    first = request(REATTACH, 7, 12)
    proven = request(REATTACH, 7, 13, given=cookie(1, V4))
    moved = request(QUERY, 9, 14, 2, 3, cookie(2, V6))
    vectors = {
        "session": SESSION,
        "secret-1": SECRETS[1],
        "secret-2": SECRETS[2],
        "credentials-1-0": struct.pack(">HI", 1, 0) + key(b"request", 1, 0) + key(b"answer", 1, 0),
        "credentials-2-3": struct.pack(">HI", 2, 3) + key(b"request", 2, 3) + key(b"answer", 2, 3),
        "transport-v4": V4,
        "transport-v6": V6,
        "cookie-1-v4": cookie(1, V4),
        "cookie-2-v6": cookie(2, V6),
        "reattach-request-without-cookie": first,
        "reattach-request": proven,
        "state-query": moved,
        "detach": request(DETACH, 7, 15, given=cookie(1, V4)),
        "close": request(CLOSE, 2**64 - 1, 2**64 - 1, given=cookie(1, V4)),
        "challenge": answer(CHALLENGE, first, content=cookie(1, V4)),
        "ack": answer(ACK, proven, 5, 8, content=rest(BOUND | HAS_ACCEPTED, (8, 13))),
        "reattach-reject-stale": answer(
            REJECT, proven, 5, 11, STALE_VERSION, 1, rest(HAS_ACCEPTED, (6, 3))
        ),
        "reattach-reject-unavailable": answer(REJECT, proven, reason=STORE_UNAVAILABLE),
        "state": answer(STATE, moved, 2**24 - 1, 9, generation=3, content=rest(BOUND)),
        "pending": answer(PENDING, proven),
    }
    print("# Made by control.py: a name and bytes on each line.")
    for name, value in vectors.items():
        print(name, value.hex())


main()
