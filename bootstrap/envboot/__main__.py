"""`python -m envboot`: the same commands, for the environment of this very Python."""

from __future__ import annotations

from envboot.cli import main

if __name__ == "__main__":
    main()
