"""What no trader decides."""
