"""A gallery searched by hand, in the browser: a server on this machine, and what its page asks."""
