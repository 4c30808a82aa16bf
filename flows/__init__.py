"""The flows, each a DAG of tasks. Read `retrain.py` first."""
