"""What a program shows while it uploads and waits, and when Ctrl-C ends it."""
