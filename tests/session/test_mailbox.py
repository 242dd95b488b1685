import asyncio

from lpnode.session.mailbox import LatestMailbox, LosslessMailbox


async def test_a_newer_value_replaces_one_that_nobody_read() -> None:
    mailbox = LatestMailbox[int]()
    assert mailbox.put(1) is None
    assert mailbox.put(2) == 1
    assert await mailbox.get() == 2


async def test_a_reader_that_waits_gets_the_value_put_later() -> None:
    mailbox = LatestMailbox[int]()
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.put(7)
    assert reader.result() == 7


async def test_closing_a_latest_mailbox_lets_its_last_value_out_first() -> None:
    mailbox = LatestMailbox[int]()
    mailbox.put(1)
    mailbox.close()
    assert mailbox.put(2) == 2
    assert [value async for value in mailbox] == [1]


async def test_a_cancelled_reader_takes_nothing_with_it() -> None:
    mailbox = LosslessMailbox[int](2)
    reader = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    await mailbox.put(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert await mailbox.get() == 1


async def test_a_writer_waits_while_the_mailbox_is_full_and_order_is_kept() -> None:
    mailbox = LosslessMailbox[int](1)
    await mailbox.put(1)
    writer = asyncio.create_task(mailbox.put(2))
    await asyncio.sleep(0)
    assert not writer.done()
    assert await mailbox.get() == 1
    await writer
    assert await mailbox.get() == 2


async def test_fullness_counts_weights_and_an_empty_mailbox_takes_any_weight() -> None:
    mailbox = LosslessMailbox[bytes](4, len)
    await mailbox.put(b"longer than four")
    writer = asyncio.create_task(mailbox.put(b"x"))
    await asyncio.sleep(0)
    assert not writer.done()
    assert await mailbox.get_all() == [b"longer than four"]
    await writer
    assert mailbox.take_all() == [b"x"]


async def test_closing_a_lossless_mailbox_frees_its_writer_and_ends_its_reader() -> None:
    mailbox = LosslessMailbox[int](1)
    await mailbox.put(1)
    writer = asyncio.create_task(mailbox.put(2))
    await asyncio.sleep(0)
    mailbox.close()
    await writer
    assert [value async for value in mailbox] == [1]
    assert await mailbox.get_all() == []


async def test_an_offer_to_a_full_mailbox_is_declined() -> None:
    mailbox = LosslessMailbox[int](1)
    assert mailbox.offer(1)
    assert not mailbox.offer(2)
    assert await mailbox.get() == 1
    mailbox.close()
    assert not mailbox.offer(3)
