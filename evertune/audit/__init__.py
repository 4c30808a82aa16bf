"""What has become of a version and its rows: traced, trained again, forgotten, removed when nobody needs it."""
