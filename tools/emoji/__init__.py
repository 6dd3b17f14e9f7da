"""The parts of tools/build_emoji.py."""
