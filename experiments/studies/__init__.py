"""What the studies in docs/experiments measure beside what `abm sweep --list-measures` shows, and how they draw it."""
