"""Settings: how they are declared, where they come from, which source wins."""
