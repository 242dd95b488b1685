"""Compiles the contracts that ship with the package: ``python tests/compile_contracts.py``.

It needs npm, from which it takes the compiler. A test fails while the file is older than the
sources.
"""

import hashlib
import json
from pathlib import Path

from evm_tools import compiled_contracts, solc_task, solc_version

from lpnode.command.local_chain import contracts

SHIPPED = Path(contracts.__file__).with_name(contracts.FILE_NAME)


def origin() -> dict[str, str]:
    """The compiler, and a hash of what it is given."""
    return {
        "solc": solc_version(),
        "sources_sha256": hashlib.sha256(solc_task().encode()).hexdigest(),
    }


def compiled_text() -> str:
    """What the file must hold. Raises: NoEvmTools: there is no compiler here."""
    code = {
        name: contract["evm"]["bytecode"]["object"]
        for name, contract in sorted(compiled_contracts().items())
    }
    return json.dumps(origin() | {"creation_code": code}, indent=1) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(compiled_text())
