"""Instances: ordered, linked, used, and terminated until it is proven that they are gone."""
