"""The ranking model: text to tokens, packing, encoder with score head, saving and loading, and `Ranker` for callers."""
