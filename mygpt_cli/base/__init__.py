"""What every part may use: errors, locks, strict JSON, seeds, devices."""
