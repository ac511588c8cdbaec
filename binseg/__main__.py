"""`python -m binseg`, for `torchrun -m binseg train …`."""

import sys

from binseg.cli import main

sys.exit(main())
