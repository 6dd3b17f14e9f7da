"""Tables and sentences that follow from the loaded numbers, for the page, `dvc plots` and metrics/.

May import `load`, `domix.evaluate` and `domix.runtime`. Must not import figures, page or paper.
"""
