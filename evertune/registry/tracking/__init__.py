"""The MLflow runs of retrainings, searches, backtests and drift checks."""
