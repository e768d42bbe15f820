"""`python -m flows.cli`, where the console script is not installed."""

from flows.cli.app import main

if __name__ == "__main__":
    main()
