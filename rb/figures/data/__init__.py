"""Stamps and their pixels."""
