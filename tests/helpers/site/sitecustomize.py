"""For interpreters that tests start, by PYTHONPATH: collecting during large imports took a quarter of their time."""

import gc

gc.set_threshold(100_000)  # as the command line does
