"""MLflow: runs, models, aliases; and the ledger beside it. The only package that imports mlflow."""
