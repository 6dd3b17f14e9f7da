"""The page that a reader opens, the comparison of two experiments, and the cards.

May import all other rooms of the report but paper.
"""
