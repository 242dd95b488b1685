"""One POST over HTTP/2 on a connection of its own, as a gateway sends AI requests.

Source: discovery.md section 1.2: gateways offer ``h2, http/1.1`` and verify no certificate.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from lpnode.errors import PeerGone, ProtocolError, TooLarge

DIAL_S = 2.0
MAX_ANSWER_BYTES = 1 << 20
_READ_BYTES = 1 << 16


@dataclass(slots=True)
class Answer:
    """Status, header fields (names in lower case) and the whole body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    http_version: str = "2"


def gateway_tls() -> ssl.SSLContext:
    """TLS as a gateway's HTTP client does it: any certificate, h2 before HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def post(
    url: str, body: bytes, headers: Sequence[tuple[str, str]], *, timeout_s: float
) -> Answer:
    """Sends the request and returns the answer, whatever its status.

    HTTP/2 when the server selects it; HTTP/1.1 otherwise and for ``http://``.

    Raises: PeerGone: no connection, or lost, or too slow. ProtocolError: not HTTP.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            if parts.scheme == "https":
                async with asyncio.timeout(DIAL_S):
                    reader, writer = await asyncio.open_connection(
                        parts.hostname, parts.port, ssl=gateway_tls(), limit=_READ_BYTES
                    )
                try:
                    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
                    if tls.selected_alpn_protocol() == "h2":
                        return await _Exchange(reader, writer).run(url, body, headers)
                finally:
                    # Not awaited: a peer that does not answer the TLS close must not hold us up.
                    writer.close()
            return await _post_http1(url, body, headers)
    except TimeoutError as error:
        raise PeerGone(f"{parts.netloc} did not answer within {timeout_s:g} s") from error
    except (OSError, aiohttp.ClientError) as error:
        raise PeerGone(f"{parts.netloc}: {error or type(error).__name__}") from error
    except h2.exceptions.ProtocolError as error:
        raise ProtocolError(f"{parts.netloc}: HTTP/2: {error}") from error


async def _post_http1(url: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Answer:
    connector = aiohttp.TCPConnector(ssl=False, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
        http.post(url, data=body, headers=dict(headers), allow_redirects=False) as response,
    ):
        fields = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, fields, await response.read(), "1.1")


class _Exchange:
    """The one stream of one HTTP/2 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._answer = Answer()
        self._has_ended = False

    async def run(self, url: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Answer:
        """Sends everything the windows allow, reads until the stream ends."""
        parts = urlsplit(url)
        self._h2.initiate_connection()
        stream = self._h2.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", parts.scheme),
            (":authority", parts.netloc),
            (":path", parts.path or "/"),
            *((name.lower(), value) for name, value in headers),
            ("content-length", str(len(body))),
        ]
        self._h2.send_headers(stream, fields)
        rest = memoryview(body)
        is_sent = False
        while not self._has_ended:
            while not is_sent and (not rest or self._h2.local_flow_control_window(stream)):
                room = min(
                    self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size
                )
                piece, rest = rest[:room], rest[room:]
                is_sent = not rest
                self._h2.send_data(stream, piece.tobytes(), end_stream=is_sent)
            self._writer.write(self._h2.data_to_send())
            await self._writer.drain()
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise PeerGone(f"{parts.netloc} closed the connection before it answered")
            for event in self._h2.receive_data(data):
                self._handle(event)
            if self._has_ended or self._answer.status:
                is_sent = True  # the server has decided; it does not want the rest of the body
        self._writer.write(self._h2.data_to_send())
        return self._answer

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                fields = {str(name): str(value) for name, value in event.headers or ()}
                self._answer.status = int(fields.pop(":status"))
                self._answer.headers = fields
            case h2.events.DataReceived():
                self._answer.body += event.data or b""
                if len(self._answer.body) > MAX_ANSWER_BYTES:
                    raise TooLarge(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
                assert event.stream_id is not None
                self._h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id
                )
            case h2.events.StreamEnded():
                self._has_ended = True
            case h2.events.StreamReset():
                # NO_ERROR after a whole answer means: stop sending, the answer stands.
                if not self._answer.status or event.error_code != h2.errors.ErrorCodes.NO_ERROR:
                    raise PeerGone(f"the stream was reset (HTTP/2 error {event.error_code})")
                self._has_ended = True
            case h2.events.ConnectionTerminated() if not self._answer.status:
                raise PeerGone(f"the connection was ended (HTTP/2 error {event.error_code})")
