"""`python -m edge` is `edge`."""

import sys

from .cli import main

sys.exit(main())
