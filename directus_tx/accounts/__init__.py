"""Who somebody is: passwords, tokens, signing in."""
