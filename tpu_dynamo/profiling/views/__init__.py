"""Forms in which a profile is shown."""
