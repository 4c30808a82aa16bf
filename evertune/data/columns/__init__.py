"""Columns of Arrow tables: texts as arrays, chunks, digests, connected components."""
