"""The requests of one HTTP/2 connection, from their heads to the ends of their answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from lpnode.edge.exchange import Handler, Headers, Request, closing_body
from lpnode.edge.grpc.server import Reply, UnaryMethods
from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, StreamFault
from lpnode.edge.http2.head import RequestHead
from lpnode.edge.http2.sender import Sender
from lpnode.edge.http2.stream import Stream
from lpnode.errors import PeerGone

logger = logging.getLogger(__name__)

_Work = Callable[[Stream], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Application:
    """What requests are answered with; ``tasks`` owns the handlers that run."""

    handler: Handler
    grpc: UnaryMethods
    tasks: asyncio.TaskGroup


class Exchanges:
    """Open streams by id, and what they hold of the connection's receive window.

    ``window`` is what the peer may still send on the connection. ``ended`` is called when a
    stream has gone.
    """

    def __init__(
        self,
        application: Application,
        sender: Sender,
        peer: str,
        *,
        stream_window: int,
        connection_window: int,
        clock: Callable[[], float],
        ended: Callable[[], None],
    ) -> None:
        self.open: dict[int, Stream] = {}
        self.window = connection_window
        self.num_running = 0
        self._handler = application.handler
        self._grpc = application.grpc
        self._tasks = application.tasks
        self._sender = sender
        self._peer = peer
        self._stream_window = stream_window
        self._connection_window = connection_window
        self._clock = clock
        self._ended = ended
        self._unrefunded = 0
        self._collected = 0

    def begin(self, stream_id: int, head: RequestHead, *, has_ended: bool) -> None:
        """A request's head is complete; ``has_ended``: it has no body.

        Raises: StreamFault: it lacks the body that it promised.
        """
        sender = self._sender
        now = self._clock()
        stream = Stream(stream_id, head, self, self._stream_window, sender.initial_window, now)
        self.open[stream_id] = stream
        if head.is_grpc:
            refusal = self._grpc.refusal(head.method, head.content_type)
            if refusal:
                stream.is_received = has_ended
                sender.write_head(stream, refusal, end_stream=True)
                self._finish(stream)
                return
        else:
            self._start(stream, self._serve)
        if has_ended:
            self.end_body(stream)

    def take(self, stream: Stream, payload: bytes) -> None:
        """A piece of a request's body.

        Raises: StreamFault: the body is longer than it promised.
        """
        size = len(payload)
        if stream.remaining >= 0:
            stream.remaining -= size
            if stream.remaining < 0:
                raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "body over its length")
        stream.feed(payload)
        if stream.head.is_grpc:
            # The message is collected whole, so its bytes are handed back to the window at once;
            # what all streams may hold together has to be counted apart.
            self.refund(stream, size)
            stream.received_bytes += size
            self._collected += size
            if stream.received_bytes > self._grpc.max_request_bytes:
                self.reply(stream, Reply.failure(8, self._grpc.too_large_text))
            elif self._collected > self._connection_window:
                self.reply(stream, Reply.failure(8, "too many unfinished messages"))

    def end_body(self, stream: Stream) -> None:
        """The request is complete.

        Raises: StreamFault: its body is shorter than it promised.
        """
        if stream.remaining > 0:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "body under its length")
        stream.end_body()
        if stream.head.is_grpc:
            self._call(stream)

    def _call(self, stream: Stream) -> None:
        # One copy where the message came in several frames: it is parsed as a whole.
        message = b"".join(stream.pieces)
        stream.pieces.clear()
        self._collected -= len(message)
        answer = self._grpc.answer(stream.head.path, message)
        if isinstance(answer, Reply):
            self.reply(stream, answer)
        else:
            self._start(stream, partial(self._finish_call, answer=answer))

    def reply(self, stream: Stream, reply: Reply) -> None:
        """Sends a unary answer: in one write if the windows have room, else by a task."""
        sender = self._sender
        if not reply.message or sender.has_room(stream, len(reply.message)):
            sender.write_unary(stream, reply.head, reply.message, reply.trailers)
            self._finish(stream)
        else:
            self._start(stream, partial(self._finish_reply, reply=reply))

    async def _finish_call(self, stream: Stream, answer: Awaitable[Reply]) -> None:
        await self._finish_reply(stream, await answer)

    async def _finish_reply(self, stream: Stream, reply: Reply) -> None:
        sender = self._sender
        if reply.message:  # a failure is its trailers alone
            sender.write_head(stream, reply.head, end_stream=False)
            await sender.send(stream, reply.message, end_stream=False)
        sender.write_head(stream, reply.trailers, end_stream=True)

    async def _serve(self, stream: Stream) -> None:
        if stream.is_gone:
            return
        head = stream.head
        path, _, query = head.path.decode("latin-1").partition("?")
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields]
        if head.authority:
            fields.insert(0, ("host", head.authority.decode("latin-1")))
        request = Request(
            head.method.decode("latin-1"), path, query, Headers(fields), stream, "2", self._peer
        )
        response = await self._handler(request)
        block = frames.response_block(response.status, response.headers)
        sender = self._sender
        body = response.body
        if isinstance(body, bytes):
            has_body = bool(body) and request.method != "HEAD"
            if has_body and sender.has_room(stream, len(body)):
                sender.write_whole(stream, block, body)
                return
            sender.write_head(stream, block, end_stream=not has_body)
            if has_body:
                await sender.send(stream, body, end_stream=True)
            return
        async with closing_body(body) as pieces:
            if request.method == "HEAD":
                sender.write_head(stream, block, end_stream=True)
                return
            sender.write_head(stream, block, end_stream=False)
            async for piece in pieces:
                if piece:
                    await sender.send(stream, piece, end_stream=False)
            await sender.send(stream, b"", end_stream=True)

    def _start(self, stream: Stream, work: _Work) -> None:
        self.num_running += 1
        stream.task = self._tasks.create_task(
            self._contain(stream, work), name=f"http2 {self._peer} stream {stream.id}"
        )

    async def _contain(self, stream: Stream, work: _Work) -> None:
        code = ErrorCode.NO_ERROR
        stream.has_started = True
        try:
            await work(stream)
        except PeerGone:
            code = ErrorCode.CANCEL
        except asyncio.CancelledError:
            code = ErrorCode.CANCEL
            raise
        except Exception:  # one request's failure ends its stream, not the node
            logger.exception("answer to %s on stream %d failed", self._peer, stream.id)
            code = ErrorCode.INTERNAL_ERROR
        finally:
            self.num_running -= 1
            self._finish(stream, code)

    def refund(self, stream: Stream, num_bytes: int) -> None:
        """``num_bytes`` of the stream's body are no longer held: the peer may send as many more."""
        self.refund_connection(num_bytes)
        if stream.is_received or stream.is_gone:
            return
        stream.unrefunded += num_bytes
        if stream.unrefunded * 2 >= self._stream_window:
            self._sender.write(frames.window_update(stream.id, stream.unrefunded))
            stream.receive_window += stream.unrefunded
            stream.unrefunded = 0

    def refund_connection(self, num_bytes: int) -> None:
        """As ``refund``, for bytes that belong to no open stream."""
        self._unrefunded += num_bytes
        if self._unrefunded * 2 >= self._connection_window:
            self._sender.write(frames.window_update(0, self._unrefunded))
            self.window += self._unrefunded
            self._unrefunded = 0

    def _finish(self, stream: Stream, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """The answer is out, or never will be: forgets the stream and what it still holds."""
        if self.open.pop(stream.id, None) is not None:
            has_answered = code == ErrorCode.NO_ERROR
            if not (has_answered and stream.is_received):
                self._sender.write(frames.reset(stream.id, code))
            self._drop_body(stream)
        self._ended()

    def abandon(self, stream: Stream) -> None:
        """The peer has reset the stream, or is to be told so: nobody waits for an answer."""
        self.open.pop(stream.id, None)
        stream.vanish()
        self._drop_body(stream)
        self._ended()

    def abandon_all(self) -> None:
        """The connection is lost, or about to be."""
        for stream in list(self.open.values()):
            self.abandon(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Ends a stream for what its peer did to it."""
        self._sender.write(frames.reset(stream_id, code))
        stream = self.open.get(stream_id)
        if stream is not None:
            self.abandon(stream)

    def _drop_body(self, stream: Stream) -> None:
        held = sum(map(len, stream.pieces))
        stream.pieces.clear()
        stream.is_gone = True
        if stream.head.is_grpc:  # its body was refunded as it arrived
            self._collected -= held
        elif held:
            self.refund_connection(held)
