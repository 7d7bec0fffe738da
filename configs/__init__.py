"""Recipes for `mygpt train --preset NAME`."""
