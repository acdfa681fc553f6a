"""What may be asked, and what follows from it. No HTTP, no processes, no torch."""
