"""The program that runs on the guest: Python 3.9+, standard library only, imports nothing above."""
