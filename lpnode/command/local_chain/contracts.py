"""The compiled contracts that ship with the package.

They have the ABI and the rules of the deployed ones as far as the node uses them. The sources are
in ``tests/contracts``; ``python tests/compile_contracts.py`` writes ``contracts.json``.
"""

import functools
import json
from importlib.resources import files

FILE_NAME = "contracts.json"


@functools.cache
def creation_code() -> dict[str, bytes]:
    """Returns by contract name what deploys it; the constructor's arguments go behind it."""
    shipped = json.loads(files(__package__).joinpath(FILE_NAME).read_text())
    return {name: bytes.fromhex(code) for name, code in shipped["creation_code"].items()}
