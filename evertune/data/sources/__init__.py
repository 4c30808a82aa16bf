"""Rows of files, tables, SQL queries and hubs, as Arrow tables."""
