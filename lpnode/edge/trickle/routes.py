"""Trickle as an ordinary handler: for HTTP/2, and HTTP/1.1 connections of the ordinary server."""

import asyncio
from collections.abc import AsyncIterator

from lpnode.edge.exchange import Request, Response
from lpnode.edge.trickle.operations import (
    SEGMENT_TOO_LARGE,
    Answer,
    Publish,
    Subscribe,
    decide,
)
from lpnode.errors import TooLarge
from lpnode.trickle import Channels, SegmentReader


class TrickleRoutes:
    """Answers every request under the base path, any method and shape.

    The server that calls it cancels the handler, or closes the response's body, when its peer is
    gone; that is how a publisher or subscriber is let go here.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def handle(self, request: Request) -> Response:
        """Serves one request; for a GET it waits, as trickle does, until there is data."""
        operation = decide(
            self._channels, request.method, request.path, lambda name: request.headers.get(name)
        )
        if isinstance(operation, Answer):
            return _response(operation, request)
        if isinstance(operation, Publish):
            return _response(await _publish(operation, request), request)
        return await _subscribe(operation, request)


async def _publish(operation: Publish, request: Request) -> Answer:
    writer = operation.writer
    if writer.is_done:
        return operation.answer()
    try:
        async with asyncio.timeout(None) as waiting:
            loop = asyncio.get_running_loop()
            # Letting a publisher go is a deadline that has come: no second task is needed.
            writer.on_release = lambda: waiting.reschedule(loop.time())
            while piece := await request.body.read():
                writer.write(piece)
        writer.finish()
    except TimeoutError:
        if not waiting.expired():
            raise
    except TooLarge:
        writer.finish()
        return SEGMENT_TOO_LARGE
    finally:
        writer.on_release = None
        writer.abandon()
    return operation.answer()


async def _subscribe(operation: Subscribe, request: Request) -> Response:
    channel = operation.channel
    reader = SegmentReader(channel, operation.segment)
    channel.num_subscribers += 1
    try:
        first = await reader.read()
    finally:
        channel.num_subscribers -= 1
    if not first:
        return _response(operation.empty_answer(), request)
    response = Response(200, list(operation.head_fields()))
    if request.method != "HEAD":
        response.body = _pieces(operation, reader, first)
    return response


async def _pieces(
    operation: Subscribe, reader: SegmentReader, first: bytes
) -> AsyncIterator[bytes]:
    operation.channel.num_subscribers += 1
    try:
        piece = first
        while piece:
            yield piece
            piece = await reader.read()
    finally:
        operation.channel.num_subscribers -= 1


def _response(answer: Answer, request: Request) -> Response:
    fields = list(answer.fields)
    # HTTP/2 has no such field: the server ends the stream's other side by itself.
    if answer.must_close and request.http_version.startswith("1"):
        fields.append(("Connection", "close"))
    return Response(answer.status, fields, answer.body)
