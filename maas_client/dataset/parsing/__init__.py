"""Parse files: lines, strict JSON with positions, file types, and a fast filter for patterns."""
