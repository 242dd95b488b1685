"""Where the tests of payments start from."""

from pathlib import Path

import pytest
from paying_gateway import PaymentBench


@pytest.fixture
def bench(tmp_path: Path) -> PaymentBench:
    return PaymentBench(tmp_path)
