"""Where chains begin: optimised networks, or points that are given."""
