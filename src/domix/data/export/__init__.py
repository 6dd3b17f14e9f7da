"""Exports of a mixture for other trainers."""
