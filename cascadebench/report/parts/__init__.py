"""What sections are made of: cells of tables, and charts."""
