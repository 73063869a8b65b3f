"""Pages for a browser, each in one file: a pair to explore, and cards to look through."""
