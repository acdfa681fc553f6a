"""Files: locks, small files that a user names, and the data files of the package."""
