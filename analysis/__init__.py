"""From tables to numbers and pictures."""
