"""A WebSocket server and client that know nothing of us.

    peer.py server                     echoes; prints its address
    peer.py client HOST ADDRESS...     runs every check against each ADDRESS

What a path asks of the server: /hello a message first, /ping a ping first, /close/CODE the end with that code,
/abort the end without a word, /refuse no WebSocket at all; everything else echoes, fragments as fragments.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20]
CODES = [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
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
        print(f"listening {host}:{port}", flush=True)
        await asyncio.Future()


class Checks:
    def __init__(self, address, host):
        self.address, self.host = address, host

    def open(self, path="/", **options):
        host, port = self.address.rsplit(":", 1)
        options = dict(max_size=None, ping_interval=None, proxy=None, open_timeout=PATIENCE) | options
        return connect(f"ws://{self.host}{path}", host=host, port=int(port), **options)

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
        for code in CODES:
            async with self.open() as ws:
                await ws.close(code, "good bye")
                assert (ws.close_code, ws.close_reason) == (code, "good bye"), (code, ws.close_code)

    async def close_by_the_server(self):
        for code in CODES:
            async with self.open(f"/close/{code}") as ws:
                await ws.wait_closed()
                assert (ws.close_code, ws.close_reason) == (code, "because"), (code, ws.close_code)

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

    async def run(self):
        results = {}
        for name in [n for n in vars(Checks) if not n.startswith("_") and n not in ("open", "run")]:
            try:
                await asyncio.wait_for(getattr(self, name)(), 2 * PATIENCE)
                results[name] = "ok"
            except Exception as e:
                results[name] = f"{type(e).__name__}: {e}"
            print(f"{self.address} {name}: {results[name]}", flush=True)
        return results


async def client(host, addresses):
    results = [await Checks(address, host).run() for address in addresses]
    return all(r == "ok" for one in results for r in one.values())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            asyncio.run(server())
        case ["client", host, *addresses] if addresses:
            sys.exit(0 if asyncio.run(client(host, addresses)) else 1)
        case _:
            sys.exit(__doc__)
