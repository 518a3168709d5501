"""The generation baseline: a causal language model that writes the answer instead of choosing it."""
