"""What reads what others wrote: `python -m tests.fuzz` tries it for long, `make test` a little."""
