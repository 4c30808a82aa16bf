"""What Prefect and MLflow cost."""
