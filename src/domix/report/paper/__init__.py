"""The study view: several test domains' results, collected into one set of tables and figures for print.

May import `tables`, `figures`, `domix.figures`, `domix.evaluate` and `domix.data`. Must not import page.
"""
