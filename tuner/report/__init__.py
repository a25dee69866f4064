"""The page of a run: one self-contained `report.html` that shows why the ensemble is what it is."""
