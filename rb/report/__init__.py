"""Pages: sections, tables, and the template that shows them."""
