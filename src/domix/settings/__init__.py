"""Parameters: every part's settings as one, read from the text of a params.yaml."""
