"""What people take away: report, comparison, tables, notebook."""
