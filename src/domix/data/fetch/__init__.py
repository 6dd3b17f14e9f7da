"""Fetching: downloads that continue where they stopped, and the verification of what lies on this disk."""
