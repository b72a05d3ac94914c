"""``python -m scoop program.py``: the same as ``scoop-run program.py``."""

import sys

from scoop.launch.cli import main

sys.exit(main())
