"""`python -m tests.chaos --minutes N --seed S`."""

import sys

from tests.chaos.game import main

sys.exit(main())
