"""Measures of features: functions of (x, y) that fit nothing."""
