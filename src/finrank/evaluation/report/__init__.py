"""An evaluation for people: on the screen, as HTML, and as a model card."""
