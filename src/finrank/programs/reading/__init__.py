"""Reading what surrounds a program or an answer: from a candidate's text to the two, in whatever wrapping."""
