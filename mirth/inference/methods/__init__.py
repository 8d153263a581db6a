"""Methods by name: what is asked of chains, and where they begin."""
