import asyncio
import logging
import threading

import pytest

from lpnode import log
from lpnode.session.codec_thread import CodecThread


async def test_calls_run_in_order_on_the_named_thread() -> None:
    thread = CodecThread("session x decode")
    names = await asyncio.gather(*(thread.run(_name_and, number) for number in range(3)))
    assert names == [("session x decode", number) for number in range(3)]
    assert await thread.close(deadline_s=5)


def _name_and(number: int) -> tuple[str, int]:
    return threading.current_thread().name, number


async def test_an_exception_reaches_the_caller_and_the_thread_goes_on() -> None:
    thread = CodecThread("t")
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 1, 0)
    assert await thread.run(divmod, 7, 2) == (3, 1)
    assert await thread.close(deadline_s=5)


async def test_the_thread_sees_the_session_id_of_its_maker() -> None:
    token = log.session_id.set("abc")
    thread = CodecThread("t")
    log.session_id.reset(token)
    assert await thread.run(log.session_id.get) == "abc"
    assert await thread.close(deadline_s=5)


async def test_closing_does_not_wait_for_a_hung_call(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    thread = CodecThread("session x encode")
    call = asyncio.create_task(thread.run(released.wait))
    await asyncio.sleep(0)
    call.cancel()
    with caplog.at_level(logging.ERROR):
        assert not await thread.close(deadline_s=0.01)
    assert "session x encode: a call did not return" in caplog.text
    released.set()
    assert await thread.close(deadline_s=5)
    assert call.cancelled()
