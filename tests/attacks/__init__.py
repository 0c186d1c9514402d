"""Scenes in which somebody tries to have merged what must not be: one file a kind of attack."""
