"""Read rows from files, Delta tables, SQL queries and data set hubs as Arrow tables."""
