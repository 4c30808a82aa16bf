"""Where the repository lies, for tests that start programs of their own or read its files."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUICK_IMPORTS = str(Path(__file__).with_name("site"))  # see its sitecustomize.py
PYTHONPATH = os.pathsep.join([str(ROOT), QUICK_IMPORTS])  # for interpreters that need the tests' own modules
