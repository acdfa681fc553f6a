"""Change data files: repair, convert, split."""
