"""Types, trees, keys, safe numerics, outcomes. Knows no statistics and no sampler."""
