"""``python -m quire.testing.tamper``."""

import sys

from .campaign import main

sys.exit(main())
