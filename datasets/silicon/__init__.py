"""Silicon."""
