"""This machine: what it has, what a training needs of it, and the child processes on it."""
