"""`python -m rosetta`: the command line."""

from rosetta.cli import main

main()
