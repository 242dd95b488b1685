"""What importing eth-account does to the rest of the process: nothing."""

import subprocess
import sys

PROGRAM = """
import json, sys
before = sys.getrecursionlimit()
from lpnode.chain.eth_account import Account
assert sys.getrecursionlimit() == before, sys.getrecursionlimit()
try:
    json.loads("[" * 1_000_000)
except RecursionError:
    sys.exit(0)
"""


def test_deeply_nested_json_is_still_refused_after_the_import() -> None:
    """With the limit that py_ecc sets it is a segmentation fault."""
    assert subprocess.run([sys.executable, "-P", "-c", PROGRAM], check=False).returncode == 0
