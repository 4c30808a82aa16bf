"""MLflow runs: of retrainings, searches, backtests and monitors."""
