"""`python -m paynode`."""

from paynode.cli.main import main

main()
