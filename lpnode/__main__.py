"""``python -m lpnode``."""

import sys

from lpnode.cli import main

sys.exit(main())
