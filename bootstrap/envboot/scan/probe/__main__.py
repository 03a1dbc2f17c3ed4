"""Run the probe: `python envboot/scan/probe/__main__.py`, whatever else that Python has."""

import gc
import os
import sys
from importlib import import_module

_HERE = os.path.dirname(os.path.abspath(__file__))

if __name__ == "__main__":
    if sys.version_info < (3, 8):
        sys.exit("Python 3.8 or later is needed")
    if sys.path[:1] == [_HERE]:
        del sys.path[0]
    sys.path.insert(0, os.path.dirname(_HERE))
    gc.disable()  # It would look at ten thousand rows again and again, and find nothing.
    main = import_module("probe.report").main
    # Nothing of ours may be found in place of the environment's own modules.
    del sys.path[0]
    main()
