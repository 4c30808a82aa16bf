"""The tasks, one module a step. Each calls the library; Prefect adds retries, logs and artifacts."""
