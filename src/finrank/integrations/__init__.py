"""finrank as the reranker of other libraries' pipelines, each in the form that the library asks for.

A module is named as its library, and imported by name alone: it needs the library, which an extra installs.
"""
