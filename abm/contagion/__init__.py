"""How what happens to one asset or holder reaches another: channels, the network they make, and measures on it."""
