"""Vendored descriptions, and the script that cuts them."""
