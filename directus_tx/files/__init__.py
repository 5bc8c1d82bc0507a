"""Files: where their bytes are stored."""
