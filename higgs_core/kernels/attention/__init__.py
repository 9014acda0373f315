"""Attention of a decode step: RoPE, KV write and split attention."""
