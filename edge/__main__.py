"""Run the command line: `python -m edge` is the same as `edge`."""

import sys

from .cli import main

sys.exit(main())
