"""Authentication: passwords, tokens, signing in."""
