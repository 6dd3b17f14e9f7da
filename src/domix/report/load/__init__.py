"""Everything that the report reads of the artifacts, as one value.

May import `domix.runtime` and `domix.evaluate`. Must not import other rooms of the report.
"""
