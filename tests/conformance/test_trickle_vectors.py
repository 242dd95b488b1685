"""Every transcript of vectors/trickle.json against the data plane, over raw sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from trickle.raw_http import RawConnection, RawResponse
from trickle.trickle_server import TrickleServer

from lpnode.trickle import LocalPublisher, TrickleConfig

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "trickle.json").read_text())
WITHIN_MS = 5000


def config_of(case: dict[str, Any]) -> TrickleConfig:
    settings = VECTORS["defaults"] | case["config"]
    return TrickleConfig(
        base_path=settings["base_path"],
        autocreate=settings["autocreate"],
        changefeed=settings["changefeed"],
        first_byte_timeout_s=settings["first_byte_timeout_ms"] / 1000,
        idle_timeout_s=settings["idle_timeout_ms"] / 1000,
        sweep_interval_s=settings["sweep_interval_ms"] / 1000,
        ring_slots=settings["ring_slots"],
    )


def body_of(step: dict[str, Any]) -> bytes | None:
    if "body_repeat" in step:
        unit, count = step["body_repeat"]
        return (unit * count).encode()
    body = step.get("body")
    return None if body is None else body.encode()


def check_head(response: RawResponse, expected: dict[str, Any]) -> None:
    assert response.status == expected["status"]
    for name, value in expected.get("headers", {}).items():
        assert response.headers.get(name.lower()) == value, name
    for name in expected.get("headers_absent", []):
        assert name.lower() not in response.headers, name


class Transcript:
    """Plays one case's steps."""

    def __init__(self, server: TrickleServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self._open: dict[str, RawConnection] = {}
        self._publishers: dict[str, LocalPublisher] = {}

    async def _connect(self) -> RawConnection:
        connection = await RawConnection.open(self._server.port)
        self._stack.push_async_callback(connection.close)
        return connection

    async def play(self, step: dict[str, Any]) -> None:
        async with asyncio.timeout(step.get("within_ms", WITHIN_MS) / 1000):
            await STEPS[step["op"]](self, step)

    async def _request(self, step: dict[str, Any]) -> None:
        name = step.get("connection")
        connection = self._open.get(name) if name else None
        if connection is None:
            connection = await self._connect()
        if name:
            self._open[name] = connection
        headers = {k: v for k, v in step["headers"].items() if k.lower() != "transfer-encoding"}
        response, body = await connection.request(
            step["method"], step["path"], headers, body_of(step)
        )
        check_head(response, step["expect"])
        if (expected := body_of(step["expect"])) is not None:
            assert body == expected

    async def _open_request(self, step: dict[str, Any]) -> None:
        connection = self._open[step["id"]] = await self._connect()
        connection.send_head(step["method"], step["path"], step["headers"])

    async def _send(self, step: dict[str, Any]) -> None:
        data = body_of(step)
        assert data is not None
        self._open[step["id"]].send_chunk(data)

    async def _finish(self, step: dict[str, Any]) -> None:
        self._open[step["id"]].finish()

    async def _abort(self, step: dict[str, Any]) -> None:
        self._open[step["id"]].abort()

    async def _expect_head(self, step: dict[str, Any]) -> None:
        check_head(await self._open[step["id"]].read_head(), step["expect"])

    async def _expect_data(self, step: dict[str, Any]) -> None:
        expected = body_of(step["expect"])
        assert expected is not None
        assert await self._open[step["id"]].read_body(len(expected)) == expected

    async def _expect_end(self, step: dict[str, Any]) -> None:
        assert await self._open[step["id"]].read_rest() == b""

    async def _expect_nothing(self, step: dict[str, Any]) -> None:
        assert await self._open[step["id"]].is_silent(step["for_ms"] / 1000)

    async def _expect_interim(self, step: dict[str, Any]) -> None:
        for _ in range(step["count"]):
            response = await self._open[step["id"]].read_any_head()
            assert response.status == step["expect"]["status"]

    async def _sleep(self, step: dict[str, Any]) -> None:
        await asyncio.sleep(step["ms"] / 1000)

    async def _control(self, step: dict[str, Any]) -> None:
        channels = self._server.channels
        match step["action"]:
            case "create_channel":
                channels.create(step["name"], step["mime"])
            case "close_channel":
                channels.close(step["name"])
            case "local_write":
                name = step["name"]
                if name not in self._publishers:
                    self._publishers[name] = LocalPublisher(channels.find(name))
                self._publishers[name].publish(step["body"].encode())
            case "advance_clock":
                self._server.clock.shift_s += step["ms"] / 1000
            case "sweep":
                channels.sweep()
            case other:
                raise AssertionError(f"unknown control action {other}")


STEPS = {
    "request": Transcript._request,
    "open": Transcript._open_request,
    "send": Transcript._send,
    "finish": Transcript._finish,
    "abort": Transcript._abort,
    "expect_head": Transcript._expect_head,
    "expect_data": Transcript._expect_data,
    "expect_end": Transcript._expect_end,
    "expect_nothing": Transcript._expect_nothing,
    "expect_interim": Transcript._expect_interim,
    "sleep": Transcript._sleep,
    "control": Transcript._control,
}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def play(case: dict[str, Any], server: TrickleServer, stack: AsyncExitStack) -> None:
    for channel in case["channels"]:
        server.channels.create(channel["name"], channel["mime"])
    transcript = Transcript(server, stack)
    for step in case["steps"]:
        await transcript.play(step)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["id"])
async def test_the_data_plane_behaves_as_the_transcript(
    case: dict[str, Any], stack: AsyncExitStack
) -> None:
    server = await stack.enter_async_context(TrickleServer(config_of(case)).listening())
    await play(case, server, stack)


# Interim responses, which the ordinary servers have no way to send, and only they.
DATA_PLANE_ONLY = {"P02"}


@pytest.mark.parametrize(
    "case",
    [case for case in VECTORS["cases"] if case["id"] not in DATA_PLANE_ONLY],
    ids=lambda case: case["id"],
)
async def test_the_ordinary_server_behaves_as_the_transcript(
    case: dict[str, Any], stack: AsyncExitStack
) -> None:
    server = TrickleServer(config_of(case))
    await stack.enter_async_context(server.behind_listener(data_plane=False))
    await play(case, server, stack)
