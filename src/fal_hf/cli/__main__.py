"""`python -m fal_hf.cli` is `fal`."""

import sys

from . import main

sys.exit(main())
