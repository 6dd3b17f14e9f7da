"""Packed images: decoding, the shards that hold them, and the index that says where each lies."""
