"""`python -m ceml` is `ceml`."""

import sys

from ceml.cli import main

sys.exit(main())
