import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from lpnode.errors import HostError
from lpnode.schedule.device_thread import DeviceThread


class Device:
    """Doubles numbers when it is let to, and remembers what it was given together."""

    def __init__(self) -> None:
        self.may_run = threading.Event()
        self.may_run.set()
        self.has_begun = threading.Event()
        self.batches: list[list[int]] = []
        self.has_parted = False

    def run(self, tasks: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(tasks))
        self.has_begun.set()
        self.may_run.wait()
        return [ValueError(f"{task} is odd") if task % 2 else task * 2 for task in tasks]

    def part(self) -> None:
        self.has_parted = True

    def thread(self, max_batch: int = 4) -> DeviceThread[int, int]:
        return DeviceThread("test device", self.run, max_batch=max_batch, parting=self.part)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.may_run.set()


async def test_each_task_gets_its_own_result_or_error(device: Device) -> None:
    thread = device.thread()
    results = await asyncio.gather(
        *(thread.process(number, number) for number in range(4)), return_exceptions=True
    )
    assert results[0::2] == [0, 4]
    assert [str(error) for error in results[1::2]] == ["1 is odd", "3 is odd"]
    await thread.stop()


async def test_commands_go_before_tasks_and_in_order(device: Device) -> None:
    thread = device.thread(max_batch=1)
    device.may_run.clear()
    order: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(thread.process("a", 0))
        await asyncio.to_thread(device.has_begun.wait)
        tasks.create_task(thread.process("a", 2))
        await asyncio.sleep(0)
        commands = [thread.post(lambda name=name: order.append(name)) for name in ("x", "y")]
        commands.append(thread.post(lambda: order.append(f"batches {len(device.batches)}")))
        device.may_run.set()
        await asyncio.gather(*commands)
    assert order == ["x", "y", "batches 1"]
    await thread.stop()


async def test_a_command_that_fails_tells_who_sent_it(device: Device) -> None:
    thread = device.thread()
    with pytest.raises(ZeroDivisionError):
        await thread.post(lambda: 1 // 0)
    assert await thread.post(lambda: 7) == 7
    await thread.stop()


async def test_stopping_ends_the_thread_after_its_commands_and_drops_its_tasks(
    device: Device,
) -> None:
    thread = device.thread(max_batch=1)
    device.may_run.clear()
    async with asyncio.TaskGroup() as tasks:
        begun = tasks.create_task(thread.process("a", 2))
        await asyncio.to_thread(device.has_begun.wait)
        dropped = tasks.create_task(asyncio.wait([tasks.create_task(fails(thread, 4))]))
        await asyncio.sleep(0)
        command = thread.post(lambda: "done")
        device.may_run.set()
        await thread.stop()
        assert device.has_parted
        assert await command == "done"
        assert await begun == 4
        await dropped
    with pytest.raises(HostError):
        await thread.process("a", 6)
    assert device.batches == [[2]]


async def fails(thread: DeviceThread[int, int], task: int) -> None:
    with pytest.raises(HostError, match="no longer running"):
        await thread.process("b", task)


async def test_abandoning_frees_everybody_while_the_call_still_hangs(device: Device) -> None:
    thread = device.thread()
    device.may_run.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fails_with(thread, 2, "device is stuck"))
        await asyncio.to_thread(device.has_begun.wait)
        tasks.create_task(fails_with(thread, 4, "device is stuck"))
        await asyncio.sleep(0)
        assert thread.busy_for_s() > 0
        thread.abandon("device is stuck")
    assert not device.has_parted
    device.may_run.set()
    await thread.stop()
    assert device.has_parted
    assert device.batches == [[2]]


async def fails_with(thread: DeviceThread[int, int], task: int, reason: str) -> None:
    with pytest.raises(HostError, match=reason):
        await thread.process(task, task)


async def test_an_idle_thread_is_not_busy(device: Device) -> None:
    thread = device.thread()
    await thread.process("a", 2)
    await thread.post(lambda: None)
    assert thread.busy_for_s() == 0
    await thread.stop()
