"""The project that a user works in: its params.yaml, folders, records and messages, for stages and commands.

May import: data, embed, evaluate, model, runtime, settings, train. Must not import: nothing.
"""
