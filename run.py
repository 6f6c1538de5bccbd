"""The command line of evalkit from a checkout; `evalkit` is the same once installed."""

from evalkit.cli import main

if __name__ == "__main__":
    main()
