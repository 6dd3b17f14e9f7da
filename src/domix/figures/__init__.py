"""Figures that are drawn once: for a page that follows its reader's theme, and for print with equal bytes.

Here live the look, the contract `Figure`, panels and charts. May import `domix.runtime` and matplotlib.
Must not import anything else of domix: what a figure shows is said by plain numbers and tables.
"""
