"""Stage 05: PPO over the candidates of a pool."""
