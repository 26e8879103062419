"""``python -m quire.testing.fencing``."""

import sys

from .campaign import main

sys.exit(main())
