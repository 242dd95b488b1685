"""The trickle data plane: one HTTP/1.1 connection as an asyncio protocol.

Everything from a publisher's socket to its subscribers' happens in one call chain, without tasks:
``data_received`` → ``SegmentWriter.write`` → each subscriber's ``transport.write``.

Source: trickle.md section 12.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from lpnode.edge.trickle.exchange import Publishing, Subscribing
from lpnode.edge.trickle.framing import render_head
from lpnode.edge.trickle.operations import BODY_FAILED, ERROR, Answer, Publish, decide
from lpnode.edge.trickle.requests import Inbound, RequestStream
from lpnode.errors import ProtocolError, TooLarge
from lpnode.trickle import Channels, TrickleConfig

Fallback = Callable[[asyncio.Transport, bytes], None]
"""Takes over a connection, and the bytes of a request that is not for trickle."""

WRITE_HIGH_BYTES = 256 * 1024
MAX_PIPELINED_BYTES = 64 * 1024
LONGEST_METHOD_BYTES = 16

BAD_REQUEST = Answer(400, ERROR, b"Bad Request\n", must_close=True)
HEAD_TOO_LARGE = Answer(431, ERROR, b"Request Header Fields Too Large\n", must_close=True)
HEAD_TIMEOUT = Answer(408, ERROR, b"Request Timeout\n", must_close=True)


def is_under(base: bytes, data: bytes) -> bool | None:
    """Whether a request that starts with ``data`` is for a path under ``base``.

    Returns: None if more bytes are needed to tell.
    """
    method, space, rest = data[: LONGEST_METHOD_BYTES + 1 + len(base)].partition(b" ")
    if not space:
        return None if len(method) <= LONGEST_METHOD_BYTES else False
    if rest.startswith(base):
        return True
    return None if base.startswith(rest) else False


class TrickleConnection(asyncio.Protocol):
    """Serves requests under the base path until one for another path comes.

    At most one exchange runs; further requests wait in their order. A peer that closes its side
    is taken for gone, unless all it still has to get is known.

    Args:
        fallback: called between requests with the transport and the bytes of a foreign request.
            Among pipelined requests, where those bytes are already parsed, the connection is
            closed instead, before that request is acted on.
    """

    write: Callable[[bytes], None]
    writelines: Callable[[list[bytes]], None]

    def __init__(self, channels: Channels, config: TrickleConfig, fallback: Fallback) -> None:
        self.is_write_paused = False
        self._channels = channels
        self._config = config
        self._base = config.base_path.encode()
        self._fallback = fallback
        self._transport: asyncio.Transport | None = None
        self._stream = RequestStream(config.max_head_bytes)
        self._undecided = b""
        self._exchange: Publishing | Subscribing | None = None
        self._is_answered = False
        self._must_close = False
        self._is_advancing = False
        self._is_closing = False
        self._is_read_paused = False
        self._timer: asyncio.TimerHandle | None = None

    def shut(self) -> None:
        """Ends the connection for the node's own reasons: at once when idle or between requests,
        else after the response that is due.
        """
        self._must_close = True
        if not self._stream.requests and not self._is_closing:
            self._close()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Relaying is mostly these calls: nothing stands between an exchange and the transport.
        self.write = self._transport.write
        self.writelines = self._transport.writelines
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._arm(self._config.idle_keep_alive_s, self._close)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if not self._stream.requests:
            # A new request, after any stray line end behind the last one's body.
            data = (self._undecided + data).lstrip(b"\r\n")
            is_ours = is_under(self._base, data)
            if is_ours is None:
                if data and not self._undecided:
                    self._arm(self._config.head_timeout_s, self._head_timed_out)
                self._undecided = data
                return
            if not is_ours:
                self._hand_over(data)
                return
            if not self._undecided:
                self._arm(self._config.head_timeout_s, self._head_timed_out)
            self._undecided = b""
        try:
            self._stream.feed(data)
        except TooLarge:
            self._fail(HEAD_TOO_LARGE)
        except ProtocolError:
            # What came before the malformed bytes still counts.
            self._advance()
            if not self._is_closing:
                self._fail(BODY_FAILED if isinstance(self._exchange, Publishing) else BAD_REQUEST)
        else:
            self._advance()

    def eof_received(self) -> bool:
        exchange = self._exchange
        is_plain = self._transport is not None and self._transport.can_write_eof()
        if exchange is not None and exchange.is_sending_rest and is_plain:
            self._must_close = True
            return True
        self._is_closing = True
        self._drop_exchange()
        return False

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._disarm()
        self._drop_exchange()
        self._let_go()

    # What an exchange calls.

    def respond(self, answer: Answer) -> None:
        request = self._stream.requests[0]
        self._must_close = self._must_close or answer.must_close or not request.keep_alive
        head = render_head(
            answer.status, answer.fields, length=len(answer.body), close=self._must_close
        )
        self.write(head if request.method == "HEAD" else head + answer.body)
        self.end_response()

    def end_response(self) -> None:
        self._exchange = None
        self._is_answered = True
        if self._is_advancing:
            return
        if len(self._stream.requests) == 1:
            self._advance()
        else:
            # The next request may act on the channel in whose midst this call comes.
            asyncio.get_running_loop().call_soon(self._advance)

    # The order of requests.

    def _advance(self) -> None:
        if self._is_closing or self._is_advancing:
            return
        self._is_advancing = True
        requests = self._stream.requests
        while requests and not self._is_closing:
            request = requests[0]
            if not request.has_head:
                if self._timer is None:
                    self._arm(self._config.head_timeout_s, self._head_timed_out)
                break
            self._work_on(request)
            if not self._is_answered or self._is_closing:
                break
            if self._must_close or not request.keep_alive:
                self._close(linger=not request.is_complete)
            elif not request.is_complete:
                request.pieces.clear()
                self._arm(self._config.idle_keep_alive_s, self._close)
                break
            else:
                requests.popleft()
                self._is_answered = False
        self._is_advancing = False
        if self._is_closing:
            return
        self._bound_pipeline()
        if not requests:
            self._arm(self._config.idle_keep_alive_s, self._close)

    def _work_on(self, request: Inbound) -> None:
        if self._exchange is None and not self._is_answered:
            self._disarm()
            self._start(request)
        if self._exchange is None:
            return
        if request.pieces:
            for piece in request.take_pieces():
                self._exchange.body(piece)
                if self._exchange is None:
                    return
        if request.is_complete:
            self._exchange.end()

    def _start(self, request: Inbound) -> None:
        path = request.path
        if not path.startswith(self._config.base_path):
            self._close()
            return
        operation = decide(self._channels, request.method, path, request.field)
        if isinstance(operation, Answer):
            self.respond(operation)
            return
        is_current = request.http_version == "1.1"
        if isinstance(operation, Publish):
            publishing = Publishing(
                self,
                operation,
                first_byte_timeout_s=self._config.first_byte_timeout_s,
                interims=is_current,
            )
            self._exchange = publishing
            publishing.start(
                expects_continue=request.field("expect").lower() == "100-continue"
                and not request.pieces
            )
            return
        subscribing = Subscribing(
            self,
            operation,
            is_head=request.method == "HEAD",
            is_chunked=is_current,
            closes=not (is_current and request.keep_alive),
        )
        if not is_current:
            self._must_close = True
        self._exchange = subscribing
        subscribing.start()

    def _bound_pipeline(self) -> None:
        transport = self._transport
        if transport is None or (len(self._stream.requests) < 2 and not self._is_read_paused):
            return
        is_full = self._stream.held_bytes > MAX_PIPELINED_BYTES
        if is_full and not self._is_read_paused:
            transport.pause_reading()
        elif self._is_read_paused and not is_full:
            transport.resume_reading()
        self._is_read_paused = is_full

    # Ends.

    def _hand_over(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        fallback = self._fallback
        self._disarm()
        self._is_closing = True
        self._let_go()
        fallback(transport, data)

    def _let_go(self) -> None:
        """Drops all that leads to the transport.

        This object and its parser refer to each other, so it waits for the collector of cycles;
        the buffers of a TLS transport, a quarter of a MiB, are too much to wait with it.
        """
        self._transport = None
        self.write = self.writelines = _drop
        self._fallback = _drop

    def _head_timed_out(self) -> None:
        self._fail(HEAD_TIMEOUT)

    def _fail(self, answer: Answer) -> None:
        has_responded = self._exchange is not None and self._exchange.has_responded
        self._drop_exchange()
        if not has_responded and not self._is_answered:
            head = render_head(answer.status, answer.fields, length=len(answer.body), close=True)
            self.write(head + answer.body)
        self._close(linger=True)

    def _drop_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.gone()

    def _close(self, *, linger: bool = False) -> None:
        self._is_closing = True
        transport = self._transport
        if transport is None:
            return
        if linger:
            # Closing with bytes unread would reset the connection and could take the answer away
            # from a peer that is still sending.
            if transport.can_write_eof():
                transport.write_eof()
            if self._is_read_paused:
                transport.resume_reading()
            self._arm(self._config.linger_s, self._close)
            return
        transport.close()
        # A peer that stopped reading does not keep the connection for ever.
        self._arm(self._config.idle_keep_alive_s, transport.abort)

    def _arm(self, delay_s: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _drop(*_: object) -> None:
    """Stands for what writes to a transport that is gone."""
