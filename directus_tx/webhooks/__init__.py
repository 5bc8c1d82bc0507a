"""Webhooks: requests to other servers about items that are written."""
