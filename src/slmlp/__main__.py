"""``python -m slmlp``."""

import sys

from slmlp.cli import main

sys.exit(main())
