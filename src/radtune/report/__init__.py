"""The report: one self-contained HTML page from the files that the other stages wrote."""
