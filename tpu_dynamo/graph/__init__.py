"""A functional ATen graph's way to what AOTAutograd calls: prepared, found in the cache or lowered, loaded, called."""
