"""Compare the jobs of a sweep over seeds, as tables, plots and one page. Needs no torch."""
