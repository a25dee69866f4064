"""Predictions from anywhere: runs, tables and arrays of other programs, matched row by row."""
