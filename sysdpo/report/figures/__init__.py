"""The figures of a system, one per file of the same name."""
