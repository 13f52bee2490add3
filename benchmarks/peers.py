"""How fast are other simulators, beside this one? `peers/README.md` says how to make their
environments; those that are absent are left out. The comparison itself is `peers/compare.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import compare

if __name__ == "__main__":
    compare.main()
