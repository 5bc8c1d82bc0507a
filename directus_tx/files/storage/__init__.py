"""Stores the bytes of files: `interfaces` says what a storage does, `local` and others do it, and `testing` checks that they do."""
