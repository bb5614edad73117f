"""The JSON API, one module per resource; each has the table of its paths."""
