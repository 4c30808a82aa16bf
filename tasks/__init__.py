"""The tasks: one module a step. A body calls the library; around it stand retries, caching and artifacts."""
