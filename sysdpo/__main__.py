"""`python -m sysdpo`."""

import sys

from sysdpo.cli import main

sys.exit(main())
