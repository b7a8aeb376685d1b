"""The figures of a system, a file each that is named as its figure."""
