"""The HTTP server. Only this package handles requests: `app` holds the Klein app, `endpoints` has a module for each group of routes."""
