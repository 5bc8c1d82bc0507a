"""The projects of a server: their files, databases and pools."""
