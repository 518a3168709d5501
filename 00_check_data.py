"""Stage 00: read every FinQA example and report what is wrong with it.

The same as `finrank check`; --help tells the flags.
"""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("check")
