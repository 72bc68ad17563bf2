"""Controls: named effective values of a run, what they should be, and the audit that compares them."""
