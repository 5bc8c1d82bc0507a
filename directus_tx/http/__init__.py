"""HTTP: the one room that sees requests. `app` has the Klein app and its wrapper, `endpoints` a module for each group of routes."""
