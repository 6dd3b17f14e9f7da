"""Packing: every image decoded once, the bad rejected, shards and the index written."""
