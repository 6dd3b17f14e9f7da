"""The command line `domix`: one module a command; what it does lies in the library.

May import: analyses, data, embed, encoders, evaluate, model, project, report, runtime, settings, train. Must not
import: nothing.
"""
