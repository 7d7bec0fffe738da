"""Views as pages that can be explored: for each what goes into it as data, and the script that shows it."""
