"""Results -> table, figures, page. Reads numbers that were already written and computes nothing new."""

from slmlp.report.page import write
from slmlp.report.suite import write as write_suite
from slmlp.report.tables import markdown_table, table_text

__all__ = ["markdown_table", "table_text", "write", "write_suite"]
