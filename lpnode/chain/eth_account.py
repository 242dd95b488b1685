"""eth-account, for those who sign and decrypt: the only place that imports it.

It takes half a second, so it is imported where it is used. Underneath, ``py_ecc`` raises the
interpreter's recursion limit a hundredfold, at which JSON that a peer nests deeply overflows the
C stack and ends the process; the limit is put back.
"""

import sys

_limit = sys.getrecursionlimit()
from eth_account import Account  # noqa: E402
from eth_account.typed_transactions.typed_transaction import TypedTransaction  # noqa: E402

sys.setrecursionlimit(_limit)

__all__ = ["Account", "TypedTransaction"]
