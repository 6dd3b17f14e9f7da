"""`python -m domix`: the command line, where its script is not installed."""

from domix.cli.app import main

main()
