"""Stage 04: supervised training of the ranking model. The same as `finrank sft`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("sft")
