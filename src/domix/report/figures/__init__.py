"""The report's figures: each one's data from the tables, and its drawing, once for page and print.

May import `load`, `tables` and `domix.figures`. Must not import page or paper.
"""
