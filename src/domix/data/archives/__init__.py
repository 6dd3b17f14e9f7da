"""Files as they are published: manifests of them, and archives of unknown origin, read without trusting them."""
