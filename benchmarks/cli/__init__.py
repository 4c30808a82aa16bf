"""What a user waits for: the quickstart, quick answers, a deployment."""
