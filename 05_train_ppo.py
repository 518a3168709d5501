"""Stage 05: reinforcement learning from the SFT model. The same as `finrank ppo`; see --help."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("ppo")
