"""WebSockets as streams of one HTTP/2 connection (RFC 8441): frames of HTTP/2 by h2, those of WebSocket by wsproto."""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection as Messages, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage


class Refused(Exception):
    """The status of an answer that opens no WebSocket."""


class Connection:
    @classmethod
    async def open(cls, address, port, host, tls):
        self = cls()
        self.authority, self.scheme = host, "https" if tls else "http"
        name = dict(ssl=tls, server_hostname=host) if tls else {}
        self.reader, self.writer = await asyncio.open_connection(address, port, **name)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.streams, self.changed, self.failed = {}, asyncio.Condition(), None
        self.flush()
        self.reading = asyncio.create_task(self.read())
        await self.until(lambda: self.h2.remote_settings.enable_connect_protocol)
        return self

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def until(self, holds):
        async with self.changed:
            await self.changed.wait_for(lambda: self.failed or holds())
        if self.failed:
            raise self.failed

    async def read(self):
        try:
            while data := await self.reader.read(1 << 16):
                for event in self.h2.receive_data(data):
                    self.take(event)
                self.flush()
                async with self.changed:
                    self.changed.notify_all()
            raise EOFError("the connection has ended")
        except Exception as e:
            self.failed = e
            async with self.changed:
                self.changed.notify_all()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.ResponseReceived():
                stream.status = dict(event.headers)[":status"]
            case h2.events.DataReceived():
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                stream.data(event.data)
            case h2.events.StreamEnded():
                stream.ended = stream.clean = True
            case h2.events.StreamReset():
                stream.ended = True
            case h2.events.ConnectionTerminated():
                raise EOFError(f"GOAWAY {event.error_code}")

    async def websocket(self, path):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", self.scheme), (":path", path)]
        head += [(":authority", self.authority), ("sec-websocket-version", "13")]
        self.h2.send_headers(stream, head)
        ws = self.streams[stream] = WebSocket(self, stream)
        self.flush()
        await self.until(lambda: ws.status or ws.ended)
        if ws.status != "200":
            raise Refused(ws.status)
        return ws


class WebSocket:
    def __init__(self, connection, stream):
        self.connection, self.stream = connection, stream
        self.messages = Messages(ConnectionType.CLIENT)
        self.status, self.ended, self.clean = None, False, False
        self.parts, self.whole, self.pongs = [], [], []
        # Code and reason of the server's close frame.
        self.closed = None

    def data(self, data):
        if not data:
            return  # of a frame that only ends the stream
        self.messages.receive_data(data)
        for event in self.messages.events():
            match event:
                case TextMessage() | BytesMessage():
                    self.parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        self.whole.append(type(self.parts[0])().join(self.parts))
                        self.parts = []
                case Pong():
                    self.pongs.append(bytes(event.payload))
                case CloseConnection():
                    self.closed = (int(event.code), event.reason or "")

    async def write(self, data):
        h2 = self.connection.h2
        while data:
            room = lambda: min(h2.local_flow_control_window(self.stream), h2.max_outbound_frame_size)
            await self.connection.until(lambda: self.ended or room() > 0)
            if self.ended:
                raise EOFError("the stream has ended")
            n = room()
            h2.send_data(self.stream, data[:n])
            data = data[n:]
            self.connection.flush()
            await self.connection.writer.drain()

    async def send(self, parts, ping=None):
        """A message in these fragments; the ping goes between them, and its pong is awaited."""
        for i, part in enumerate(parts):
            kind = TextMessage if isinstance(part, str) else BytesMessage
            await self.write(self.messages.send(kind(part, message_finished=i == len(parts) - 1)))
            if ping is not None and i == 0:
                await self.write(self.messages.send(Ping(ping)))
                await self.connection.until(lambda: self.pongs or self.ended)

    async def recv(self):
        """The next message; None: there is none any more."""
        await self.connection.until(lambda: self.whole or self.ended or self.closed)
        if self.whole:
            return self.whole.pop(0)
        if self.closed and not self.ended:
            await self.close(*self.closed)
        return None

    async def close(self, code, reason):
        await self.write(self.messages.send(CloseConnection(code, reason)))
        await self.end()
        await self.connection.until(lambda: self.ended)

    async def end(self):
        self.connection.h2.end_stream(self.stream)
        self.connection.flush()
