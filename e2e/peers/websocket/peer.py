"""A WebSocket server and clients that know nothing of us.

    peer.py server                            echoes; prints its address and process id
    peer.py client HOST CA PID TARGET...      runs every check against each TARGET, then kills PID, which must be the server

A TARGET is ws:ADDRESS, wss:ADDRESS, h2c:ADDRESS or h2:ADDRESS (extended CONNECT, in clear or over TLS); TLS trusts the
certificates of the file CA. The checks are the methods of Checks and H2Checks.

What a path asks of the server: /hello a message first, /ping a ping first, /close/CODE the end with that code,
/abort the end without a word, /refuse no WebSocket at all; everything else echoes, fragments as fragments.
"""

import asyncio
import os
import signal
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

import overh2

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20]
# Those that may be sent (RFC 6455 section 7.4 and the registry), with reasons up to the longest.
CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
# wsproto does not know 1014.
H2_CODES = [code for code in CODES if code != 1014]
REASONS = ["", "good bye", "schön", "r" * 123]
PATIENCE = 30


async def answer(ws):
    path = ws.request.path
    if path == "/hello":
        await ws.send("hello")
    elif path == "/ping":
        latency = await (await ws.ping(b"are you there"))
        await ws.send("pong" if latency >= 0 else "")
    elif path.startswith("/close/"):
        return await ws.close(int(path.rsplit("/", 1)[1]), "because")
    elif path == "/abort":
        return ws.transport.abort()
    while True:
        parts = [part async for part in ws.recv_streaming()]
        await ws.send(parts[0] if len(parts) == 1 else parts)


def refuse(ws, request):
    return ws.respond(403, "not here\n") if request.path == "/refuse" else None


def choose(ws, offered):
    return "chat.v2" if "chat.v2" in offered else None


async def server():
    async def handle(ws):
        try:
            await answer(ws)
        except ConnectionClosed:
            pass

    options = dict(process_request=refuse, select_subprotocol=choose, max_size=None, ping_interval=None)
    async with serve(handle, "127.0.0.1", 0, **options) as running:
        host, port = running.sockets[0].getsockname()[:2]
        print(f"listening {host}:{port} {os.getpid()}", flush=True)
        await asyncio.Future()


class Checks:
    def __init__(self, target, host, tls):
        self.target, self.host = target, host
        self.scheme, self.address, self.port = target.split(":")
        self.tls = tls if self.scheme == "wss" else None

    def open(self, path="/", **options):
        options = dict(max_size=None, ping_interval=None, proxy=None, open_timeout=PATIENCE, ssl=self.tls) | options
        return connect(f"{self.scheme}://{self.host}{path}", host=self.address, port=int(self.port), **options)

    async def echo_of_every_size(self):
        for compression in [None, "deflate"]:
            async with self.open(compression=compression) as ws:
                extension = ws.response.headers.get("Sec-WebSocket-Extensions", "")
                assert ("permessage-deflate" in extension) == (compression is not None), extension
                for size in SIZES:
                    text, data = "ä" * (size // 2) + "x" * (size % 2), bytes(range(256)) * (size // 256 + 1)
                    await ws.send(text)
                    assert await ws.recv() == text, size
                    await ws.send(data[:size])
                    assert await ws.recv() == data[:size], size

    async def fragments(self):
        async with self.open(compression=None) as ws:
            for parts in [["one"], ["a", "b"], [""] * 3 + ["x"], ["f" * 1000] * 200, [b"1" * 70000, b"2", b""] * 3]:
                await ws.send(parts)
                got = await ws.recv()
                assert got == type(parts[0])().join(parts), parts

    async def pings_both_ways(self):
        async with self.open() as ws:
            for payload in [b"", b"x", bytes(125)]:
                await asyncio.wait_for(await ws.ping(payload), PATIENCE)
            # Between the fragments of a message, too.
            async def parts():
                yield "first"
                await (await ws.ping(b"between"))
                yield "second"
            await ws.send(parts())
            assert await ws.recv() == "firstsecond"
        async with self.open("/ping") as ws:
            assert await ws.recv() == "pong"

    async def close_by_the_client(self):
        for i, code in enumerate(CODES):
            reason = REASONS[i % len(REASONS)]
            async with self.open() as ws:
                await ws.close(code, reason)
                assert (ws.close_code, ws.close_reason) == (code, reason), (code, ws.close_code)

    async def close_by_the_server(self):
        for code in CODES:
            async with self.open(f"/close/{code}") as ws:
                await ws.wait_closed()
                assert (ws.close_code, ws.close_reason) == (code, "because"), (code, ws.close_code)

    async def the_client_says_the_last_word_and_ends_its_side(self):
        if self.scheme == "wss":
            return  # asyncio cannot end one side of TLS
        async with self.open() as ws:
            await ws.send("last")
            assert await ws.recv() == "last"
            # A close frame and the end of this direction at once: the answer still comes.
            ws.protocol.send_close(1000, "over")
            ws.send_data()
            ws.transport.write_eof()
            await ws.wait_closed()
            assert (ws.close_code, ws.close_reason) == (1000, "over"), ws.close_code

    async def an_end_without_a_word(self):
        async with self.open("/abort") as ws:
            await ws.wait_closed()
            assert ws.close_code == 1006, ws.close_code

    async def the_server_speaks_first(self):
        for _ in range(20):
            async with self.open("/hello") as ws:
                assert await ws.recv() == "hello"

    async def a_protocol_is_agreed(self):
        async with self.open(subprotocols=["chat.v1", "chat.v2"]) as ws:
            assert ws.subprotocol == "chat.v2", ws.subprotocol

    async def a_refusal_is_an_answer(self):
        try:
            await self.open("/refuse")
        except InvalidStatus as e:
            assert (e.response.status_code, e.response.body) == (403, b"not here\n"), e.response
        else:
            raise AssertionError("not refused")

    async def ten_thousand_small_messages(self):
        async with self.open(compression=None) as ws:
            async def send():
                for i in range(10_000):
                    await ws.send(str(i))
            sending = asyncio.create_task(send())
            for i in range(10_000):
                assert await ws.recv() == str(i)
            await sending

    async def a_megabyte_at_a_time_both_ways(self):
        message = bytes(range(256)) * 4096
        async with self.open(compression=None) as ws:
            async def send():
                for _ in range(10):
                    await ws.send(message)
            sending = asyncio.create_task(send())
            for _ in range(10):
                assert await ws.recv() == message
            await sending

    async def many_at_once(self):
        async def one(n):
            async with self.open() as ws:
                for i in range(20):
                    await ws.send(f"{n}/{i}")
                    assert await ws.recv() == f"{n}/{i}"
        await asyncio.gather(*(one(n) for n in range(50)))

    async def orphan(self):
        """Waits for the end of a server that is killed."""
        ws = await self.open()
        return asyncio.create_task(self.ends(ws))

    async def ends(self, ws):
        await ws.wait_closed()
        assert ws.close_code == 1006, ws.close_code


class H2Checks:
    """Streams of one connection, except where a check opens another."""

    def __init__(self, target, host, tls):
        self.target, self.host = target, host
        self.scheme, self.address, self.port = target.split(":")
        self.tls = tls if self.scheme == "h2" else None
        self.connection = None

    async def open(self, path="/"):
        if self.connection is None:
            self.connection = await overh2.Connection.open(self.address, int(self.port), self.host, self.tls)
        return await self.connection.websocket(path)

    async def echo_of_every_size(self):
        ws = await self.open()
        for size in SIZES:
            text, data = "ä" * (size // 2) + "x" * (size % 2), bytes(range(256)) * (size // 256 + 1)
            for message in [text, data[:size]]:
                await ws.send([message])
                assert await ws.recv() == message, size
        await ws.close(1000, "")

    async def fragments_with_pings_between(self):
        ws = await self.open()
        await ws.send(["one", "", "two"])
        assert await ws.recv() == "onetwo"
        await ws.send([b"1" * 70000, b"2"], ping=b"between")
        assert await ws.recv() == b"1" * 70000 + b"2"
        assert ws.pongs == [b"between"], ws.pongs
        await ws.close(1000, "")

    async def close_by_the_client(self):
        for code in H2_CODES:
            ws = await self.open()
            await ws.close(code, "good bye")
            assert ws.closed == (code, "good bye"), (code, ws.closed)
            assert ws.clean, "the stream was reset"

    async def close_by_the_server(self):
        for code in H2_CODES:
            ws = await self.open(f"/close/{code}")
            assert await ws.recv() is None
            assert ws.closed == (code, "because"), (code, ws.closed)

    async def an_end_without_a_word(self):
        ws = await self.open("/abort")
        assert await ws.recv() is None and ws.closed is None, ws.closed

    async def the_client_ends_its_side(self):
        ws = await self.open()
        await ws.send(["last"])
        assert await ws.recv() == "last"
        await ws.end()
        assert await ws.recv() is None

    async def a_refusal_is_an_answer(self):
        try:
            await self.open("/refuse")
        except overh2.Refused as e:
            assert e.args == ("403",), e.args
        else:
            raise AssertionError("not refused")

    async def many_at_once(self):
        async def one(n):
            ws = await self.open()
            for i in range(20):
                await ws.send([f"{n}/{i}"])
                assert await ws.recv() == f"{n}/{i}"
            await ws.close(1000, "")
        await self.open()
        await asyncio.gather(*(one(n) for n in range(50)))

    async def a_megabyte_at_a_time_both_ways(self):
        ws, message = await self.open(), bytes(range(256)) * 4096
        async def send():
            for _ in range(10):
                await ws.send([message])
        sending = asyncio.create_task(send())
        for _ in range(10):
            assert await ws.recv() == message
        await sending

    async def orphan(self):
        ws = await self.open()
        return asyncio.create_task(self.ends(ws))

    async def ends(self, ws):
        assert await ws.recv() is None and ws.closed is None, ws.closed


NO_CHECKS = ["open", "orphan", "ends"]


async def run(checks):
    good = True
    for name in [n for n in vars(type(checks)) if not n.startswith("_") and n not in NO_CHECKS]:
        good &= await told(checks, name, getattr(checks, name)())
    return good


async def told(checks, name, work):
    try:
        await asyncio.wait_for(work, 2 * PATIENCE)
        result = "ok"
    except Exception as e:
        result = f"{type(e).__name__}: {e}"
    print(f"{checks.target} {name}: {result}", flush=True)
    return result == "ok"


async def client(host, ca, pid, targets):
    def checks_of(target):
        tls = ssl.create_default_context(cafile=ca)
        if not target.startswith("h2"):
            return Checks(target, host, tls)
        tls.set_alpn_protocols(["h2"])
        return H2Checks(target, host, tls)
    all_checks = [checks_of(target) for target in targets]
    good = [await run(checks) for checks in all_checks]
    orphans = [(checks, await checks.orphan()) for checks in all_checks]
    os.kill(pid, signal.SIGKILL)
    good += [await told(checks, "the_server_is_killed", orphan) for checks, orphan in orphans]
    return all(good)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            asyncio.run(server())
        case ["client", host, ca, pid, *targets] if targets:
            sys.exit(0 if asyncio.run(client(host, ca, int(pid), targets)) else 1)
        case _:
            sys.exit(__doc__)
