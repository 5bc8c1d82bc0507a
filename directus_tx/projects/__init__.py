"""The projects of one server: their files, databases and pools."""
