"""How the candidates of a question share one prefix."""
