"""Signed transactions survive a restart."""

from pathlib import Path

from lpnode.chain.submission import StoredAttempt
from lpnode.payment.attempts import Attempts
from lpnode.payment.store import PaymentStore
from lpnode.protocol.ethereum import Address

OURS = Address(b"\1" * 20)
OTHER = Address(b"\2" * 20)


async def test_attempts_are_kept_until_their_nonce_is_settled(tmp_path: Path) -> None:
    rows = [
        StoredAttempt(OURS, 7, b"\xaa" * 32, b"first"),
        StoredAttempt(OURS, 6, b"\xbb" * 32, b"earlier"),
        StoredAttempt(OURS, 7, b"\x0c" * 32, b"replacement"),
        StoredAttempt(OTHER, 7, b"\xdd" * 32, b"another account"),
    ]
    store = PaymentStore(tmp_path / "payments.db")
    store.start()
    for row in (*rows, rows[0]):
        await Attempts(store).save_attempt(row)
    await store.close()
    store = PaymentStore(tmp_path / "payments.db")
    store.start()
    attempts = Attempts(store)
    assert await attempts.attempts(OURS) == rows[:3]
    await attempts.forget_nonce(OURS, 7)
    assert await attempts.attempts(OURS) == rows[1:2]
    assert await attempts.attempts(OTHER) == rows[3:]
    await store.close()
