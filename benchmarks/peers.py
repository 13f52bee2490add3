"""How fast are other simulators, compared with this one?

`peers/README.md` explains how to create their environments; missing ones are skipped. The
comparison is in `peers/compare.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import compare

if __name__ == "__main__":
    compare.main()
