"""How each subject is driven: an adapter each, as `benchmarks.adapter` says."""
