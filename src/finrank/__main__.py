"""`python -m finrank`: the same as the `finrank` command."""

from finrank.cli import main

if __name__ == "__main__":
    main()
