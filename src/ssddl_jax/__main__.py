"""`python -m ssddl_jax` is `ssddl`."""

import sys

from ssddl_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
